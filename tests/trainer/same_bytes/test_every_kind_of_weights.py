"""Every kind of weights and optimizer gives the same bytes again: killed and continued, and run anew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from registry.database import Registry
from tests.kills.asked import Trained, chat
from tests.trainer.same_bytes.killed_and_reproduced import assert_same_bytes
from trainer.settings import TrainerSettings

pytestmark = pytest.mark.trains

FULL: Mapping[str, Any] = {"weights": "full", "lora_rank": None, "learning_rate": 0.001}
PROJECTED: Mapping[str, Any] = {**FULL, "optimizer_rank": 8, "optimizer_interval": 2}
CASES: Mapping[str, Mapping[str, Any]] = {
    "rslora": {"lora_variant": "rslora", "lora_plus_ratio": 16.0},
    "pissa": {"lora_variant": "pissa"},
    "olora": {"lora_variant": "olora"},
    "dora": {"lora_variant": "dora"},
    "qlora": {"weights": "qlora"},
    "adafactor": {**FULL, "optimizer": "adafactor", "gradient_checkpointing": True},
    "galore": {**PROJECTED, "optimizer": "galore"},
    "apollo": {**PROJECTED, "optimizer": "apollo"},
}


@pytest.mark.parametrize("name", CASES)
def test_a_killed_job_and_a_reproduction_of_it_have_the_same_bytes(
    registry: Registry, settings: TrainerSettings, name: str
) -> None:
    kind = Trained(name=name, method="supervised", rows=chat, hyperparameters=CASES[name])
    assert_same_bytes(registry, settings, kind)
