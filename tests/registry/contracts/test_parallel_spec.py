"""Processes that could not share a job are refused before it is queued, by the name of the field."""

from __future__ import annotations

import sys
from typing import Any, get_args

import pytest

from registry.contracts.hyperparameters import Hyperparameters
from registry.contracts.job_kinds import FINE_TUNING_METHODS
from registry.contracts.methods.sampling_options import SamplingSpec
from registry.contracts.methods.supervised_spec import SupervisedHyperparameters, SupervisedOptions, SupervisedSpec
from registry.contracts.parallel_spec import Parallelism
from registry.errors import WeightsRefused

GRADER = {"type": "string_check", "name": "right", "input": "a", "reference": "b", "operation": "eq"}
FIELDS: dict[str, Any] = {"base": "tiny", "base_digest": "0" * 64, "adapter": "a", "training_file": "f", "seed": 1}


def spec_of(**asked: Any) -> SupervisedSpec:
    options = SupervisedOptions(hyperparameters=SupervisedHyperparameters.model_validate(asked))
    return SupervisedSpec.model_validate(FIELDS | SupervisedSpec.resolve(options, 100))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"processes": 2, "batch_size": 5}, "6 would do"),
        ({"processes": 4, "batch_size": 3}, "more than the 3 rows of a batch"),
        ({"processes": 2, "batch_size": 12, "micro_batch_size": 4}, "micro_batch_size 4"),
        ({"processes": 2, "parallelism": "fsdp2", "batch_size": 4, "weights": "qlora"}, "take ddp"),
        ({"processes": 2, "parallelism": "fsdp2", "batch_size": 4, "lora_variant": "pissa"}, "take ddp"),
        ({"processes": 2, "parallelism": "fsdp2", "batch_size": 4, "optimizer": "adafactor"}, "take ddp"),
        ({"processes": 2, "parallelism": "deepspeed_zero2", "batch_size": 4, "weights": "qlora"}, "take ddp"),
        ({"processes": 2, "parallelism": "deepspeed_zero3", "batch_size": 4, "optimizer": "adafactor"}, "take ddp"),
        ({"processes": 2, "parallelism": "deepspeed_zero3", "batch_size": 4, "precision": "bf16"}, "not bf16"),
    ],
)
def test_what_processes_cannot_share_is_refused(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(WeightsRefused, match=said):
        spec_of(**asked).check_weights()


def test_an_automatic_batch_is_one_that_the_processes_can_share() -> None:
    spec = spec_of(processes=3)
    assert spec.batch_size == 3
    spec.check_weights()
    assert spec_of(processes=2, parallelism="fsdp2", batch_size=4).parallel.shards_weights
    assert spec_of(parallelism="fsdp2").process_count() == 1


@pytest.mark.parametrize("way", ["deepspeed_zero2", "deepspeed_zero3"])
def test_deepspeed_is_refused_where_it_is_absent(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_of(processes=2, parallelism=way, batch_size=4)
    spec.check_weights()
    assert spec.libraries() == {"deepspeed"}
    assert spec_of(parallelism=way).libraries() == frozenset()
    monkeypatch.setitem(sys.modules, "deepspeed", None)  # as if it was not installed
    with pytest.raises(WeightsRefused, match=rf"{way} needs the library deepspeed.*lorry\[deepspeed\]"):
        spec.check_weights()


@pytest.mark.parametrize("method", FINE_TUNING_METHODS)
@pytest.mark.parametrize("way", get_args(Parallelism))
def test_every_method_is_shared_in_every_way(method: str, way: str) -> None:
    given = FIELDS | {"n_epochs": 1, "batch_size": 4, "learning_rate": 1e-3}
    sampling = {"grader": GRADER, "group_size": 2, "beta": 0.04, "iterations": 1}
    shared = {"parallel": {"processes": 2, "parallelism": way}}
    kind = FINE_TUNING_METHODS[method]
    spec = kind.model_validate(given | shared | (sampling if issubclass(kind, SamplingSpec) else {}))
    spec.check_weights()
    assert spec.process_count() == 2


@pytest.mark.parametrize("asked", [{"processes": 0}, {"processes": 65}, {"parallelism": "zero3"}])
def test_a_wrong_value_is_an_error(asked: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"process|parallelism"):
        Hyperparameters.model_validate(asked)
