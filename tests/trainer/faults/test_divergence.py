"""A job of any method whose numbers are lost fails as diverged, and publishes nothing."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from registry.database import Registry
from registry.jobs.job_state import JobState
from tests.kills.asked import KINDS, Trained
from tests.trainer.attempts import spec_of
from tests.trainer.forks.forked_children import ForkedChildren
from trainer.settings import TrainerSettings

pytestmark = pytest.mark.trains

TOO_FAST = {"learning_rate": 1e30}
"""A rate that no request may have: after the first step the model computes nothing finite."""
TRAINED: Sequence[Trained] = tuple(kind for kind in KINDS if isinstance(kind, Trained))
CODES = {"reward": "publish_failed"}
"""A reward model's head takes the first step alone; its scores are huge then, but numbers, and nothing else learns."""
LAST_STEPS = ("lora", "full", "merged", "grpo")
"""Kinds that a run of one step shows: its only loss is a number, what it publishes is not."""


def assert_diverged(
    registry: Registry, settings: TrainerSettings, forks: ForkedChildren, kind: Trained, **changes: object
) -> None:
    job = registry.jobs.create(spec_of(registry, kind, **changes).model_copy(update=TOO_FAST), "ann")
    forks.work(registry, settings)
    ended = registry.jobs.get(job.id)
    assert ended.error is not None
    code = CODES.get(kind.name, "diverged")
    assert (ended.state, ended.error.code) == (JobState.FAILED, code), ended.error.message
    assert ("a lower learning_rate_multiplier may help" in ended.error.message) == (code == "diverged")
    assert (registry.snapshot().revisions, [base.name for base in registry.bases.list()]) == ((), ["tiny"])
    assert not list(settings.work.glob("*/*/checkpoint-*"))


@pytest.mark.parametrize("kind", TRAINED, ids=lambda kind: kind.name)
def test_a_loss_that_is_no_number_ends_the_job(
    registry: Registry, settings: TrainerSettings, forks: ForkedChildren, kind: Trained
) -> None:
    assert_diverged(registry, settings, forks, kind)


@pytest.mark.parametrize("kind", [kind for kind in TRAINED if kind.name in LAST_STEPS], ids=lambda kind: kind.name)
def test_weights_that_only_the_last_step_made_infinite_are_not_published(
    registry: Registry, settings: TrainerSettings, forks: ForkedChildren, kind: Trained
) -> None:
    assert_diverged(
        registry, settings, forks, kind, n_epochs=1, batch_size=12, iterations=1 if kind.name == "grpo" else None
    )
