"""A spec of every method gives the same bytes again: killed and continued, and run anew in another process."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from registry.database import Registry
from tests.kills.asked import KINDS, SIMILAR, Trained, pair, rated, sampled
from tests.trainer.same_bytes.killed_and_reproduced import assert_same_bytes
from trainer.settings import TrainerSettings

pytestmark = pytest.mark.trains

DROPOUT = {"lora_dropout": 0.1}
IPO = {"weights": "full", "lora_rank": None, "learning_rate": 0.001, "loss_type": "ipo"}
FURTHER: Sequence[Trained] = (
    Trained(name="ipo-of-full", method="dpo", rows=pair, hyperparameters=IPO),
    Trained(name="kto-validated", method="kto", rows=rated, hyperparameters=DROPOUT, validates=True),
    Trained(name="reward-validated", method="reward", rows=pair, hyperparameters=DROPOUT, validates=True),
    sampled("dropped-out", "reinforcement", SIMILAR, **DROPOUT, iterations=2, checkpoint_steps=3),
    sampled("ppo-once", "ppo", SIMILAR, iterations=1),
)
CASES: Sequence[Trained] = (*(kind for kind in KINDS if isinstance(kind, Trained)), *FURTHER)


@pytest.mark.parametrize("kind", CASES, ids=lambda kind: kind.name)
def test_a_killed_job_and_a_reproduction_of_it_have_the_same_bytes(
    registry: Registry, settings: TrainerSettings, kind: Trained
) -> None:
    assert_same_bytes(registry, settings, kind)
