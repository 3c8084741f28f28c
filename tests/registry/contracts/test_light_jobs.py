"""Which jobs may be trained beside others in one process."""

from __future__ import annotations

from typing import Any

import pytest

from registry.contracts.extensions.integrations import Integration
from registry.contracts.job_spec import LoraSpec
from registry.contracts.methods.dpo_spec import DpoSpec
from registry.contracts.methods.reward_spec import RewardSpec
from registry.contracts.methods.supervised_spec import SupervisedSpec
from registry.contracts.parallel_spec import ParallelSpec
from registry.contracts.weights_spec import WeightsSpec

FIELDS: dict[str, Any] = {
    "base": "tiny",
    "base_digest": "0" * 64,
    "adapter": "support",
    "training_file": "file-1",
    "n_epochs": 1,
    "batch_size": 2,
    "learning_rate": 1e-3,
    "seed": 1,
}


@pytest.mark.parametrize("kind", [SupervisedSpec, DpoSpec])
def test_a_plain_adapter_is_light_whatever_its_rank_and_targets(kind: Any) -> None:
    lora = LoraSpec(rank=64, target_modules=("q_proj",), variant="rslora")
    assert kind(**FIELDS, lora=lora).is_light()


@pytest.mark.parametrize(
    "heavy",
    [
        {"lora": LoraSpec(dropout=0.1)},
        {"lora": LoraSpec(variant="pissa")},
        {"lora": LoraSpec(variant="dora")},
        {"weights": WeightsSpec(kind="full")},
        {"weights": WeightsSpec(kind="qlora")},
        {"weights": WeightsSpec(merge=True)},
        {"weights": WeightsSpec(precision="bf16")},
        {"parallel": ParallelSpec(processes=2)},
        {"pictures": {"training_file": "0" * 64}},
        {"integrations": (Integration(type="tensorboard"),)},
    ],
)
def test_what_changes_the_base_or_the_process_is_not_light(heavy: dict[str, Any]) -> None:
    assert not SupervisedSpec(**FIELDS, **heavy).is_light()


def test_a_method_that_was_not_tried_beside_others_is_not_light() -> None:
    assert not RewardSpec(**FIELDS).is_light()
