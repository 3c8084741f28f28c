"""Weights, variants and optimizers that do not go together are refused by name, before a job is queued."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import pytest
from pydantic import ValidationError

from registry.contracts.fine_tune_spec import FULL_RATE
from registry.contracts.hyperparameters import Hyperparameters, MethodOptions
from registry.contracts.methods.supervised_spec import SupervisedSpec
from registry.contracts.weights_spec import OptimizerSpec
from registry.errors import WeightsRefused
from registry.states import ResultKind


class CompareSpec(SupervisedSpec):
    """A method that compares with the base model."""

    method: Literal["compare"] = "compare"  # type: ignore[assignment]

    def has_reference(self) -> bool:
        return True


class ScoreSpec(SupervisedSpec):
    """A method that makes a reward model."""

    makes: ClassVar[ResultKind] = ResultKind.REWARD
    method: Literal["score"] = "score"  # type: ignore[assignment]


def spec_of(kind: type[SupervisedSpec] = SupervisedSpec, **asked: Any) -> SupervisedSpec:
    options = MethodOptions(hyperparameters=Hyperparameters.model_validate(asked))
    return kind(
        base="tiny", base_digest="0" * 64, adapter="a", training_file="f", seed=1, **kind.resolve(options, rows=100)
    )


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"weights": "nf4"}, "Input should be 'lora', 'qlora' or 'full'"),
        ({"lora_variant": "vera"}, "Input should be 'lora', 'rslora', 'pissa', 'olora' or 'dora'"),
        ({"weights": "full", "lora_rank": 8}, "lora_rank 8 goes with weights lora or qlora"),
        ({"weights": "full", "lora_variant": "pissa"}, 'lora_variant "pissa" goes with weights lora or qlora'),
        ({"weights": "full", "merge": True}, "merge true goes with weights lora or qlora"),
        ({"optimizer": "galore"}, 'optimizer "galore" goes with weights full'),
        ({"weights": "qlora", "optimizer": "apollo"}, 'optimizer "apollo" goes with weights full'),
        ({"weights": "full", "optimizer_rank": 8}, "optimizer_rank 8 goes with optimizer galore or apollo"),
        ({"weights": "full", "optimizer": "adafactor", "optimizer_scale": 2.0}, "optimizer_scale 2.0 goes with"),
        ({"optimizer": "adafactor", "lora_plus_ratio": 16.0}, "lora_plus_ratio 16.0 goes with optimizer adamw"),
        ({"weights": "qlora", "lora_variant": "pissa"}, "lora_variant 'pissa' needs the base's own weights"),
        ({"weights": "qlora", "lora_variant": "dora"}, "lora_variant 'dora' needs the base's own weights"),
        ({"lora_variant": "dora", "merge": False}, "'dora' is served merged only"),
        ({"lora_plus_ratio": 0.5}, "greater than or equal to 1"),
    ],
)
def test_what_does_not_go_together_names_the_field(asked: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Hyperparameters.model_validate(asked)
    assert why in str(refused.value)


@pytest.mark.parametrize(
    ("asked", "result", "rank"),
    [
        ({}, ResultKind.ADAPTER, 16),
        ({"weights": "qlora", "lora_variant": "rslora"}, ResultKind.ADAPTER, 16),
        ({"lora_variant": "pissa"}, ResultKind.ADAPTER, 32),
        ({"lora_variant": "olora", "lora_rank": 8}, ResultKind.ADAPTER, 16),
        ({"merge": True}, ResultKind.CHECKPOINT, 16),
        ({"lora_variant": "dora"}, ResultKind.CHECKPOINT, 16),
        ({"weights": "full"}, ResultKind.CHECKPOINT, None),
    ],
)
def test_the_weights_decide_what_a_result_becomes(asked: dict[str, Any], result: ResultKind, rank: int | None) -> None:
    spec = spec_of(**asked)
    shape = spec.lora_shape()
    spec.check_weights()
    assert spec.result_kind() is result
    assert (None if shape is None else shape.published_rank) == rank
    assert (spec.alias("ftjob-12345678", "lorry") is not None) == (result is ResultKind.ADAPTER)


def test_full_training_takes_a_smaller_rate_and_usual_values_of_the_optimizer() -> None:
    assert spec_of(weights="full").learning_rate == FULL_RATE * spec_of().learning_rate
    assert spec_of(weights="full", learning_rate=0.5).learning_rate == 0.5
    assert spec_of(weights="full", optimizer="galore").weights.optimizer == OptimizerSpec(
        kind="galore", rank=128, interval=200, scale=1.0
    )
    changed = spec_of(weights="full", optimizer="apollo", optimizer_rank=1, optimizer_interval=7)
    assert changed.weights.optimizer == OptimizerSpec(kind="apollo", rank=1, interval=7, scale=1.0)
    facts = changed.fine_tune_facts().extensions
    assert (facts["lora"], facts["weights"]["kind"], facts["weights"]["optimizer"]["rank"]) == (None, "full", 1)


@pytest.mark.parametrize(
    ("kind", "asked", "why"),
    [
        (CompareSpec, {"weights": "full"}, "weights 'full' leaves no base model to compare with, which compare needs"),
        (CompareSpec, {"lora_variant": "pissa"}, "lora_variant 'pissa' leaves no base model to compare with"),
        (ScoreSpec, {"weights": "full"}, "the result of score is a reward model, not a checkpoint"),
        (ScoreSpec, {"merge": True}, "the result of score is a reward model, not a checkpoint"),
        (SupervisedSpec, {"batch_size": 8, "micro_batch_size": 3}, "micro_batch_size 3 does not divide"),
    ],
)
def test_a_method_refuses_weights_that_it_has_no_use_for(
    kind: type[SupervisedSpec], asked: dict[str, Any], why: str
) -> None:
    with pytest.raises(WeightsRefused, match=why):
        spec_of(kind, **asked).check_weights()
    spec_of(kind, weights="lora", lora_variant="rslora").check_weights()
