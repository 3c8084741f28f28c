"""Jobs give the same bytes again in the processes that workers start: killed and continued, and run anew.

Each of them imports for seven seconds, so continuous integration has a few kinds, and `make same-bytes-test` all.
"""

from __future__ import annotations

import pytest

from registry.database import Registry
from tests.kills.asked import Trained
from tests.trainer.same_bytes.compared_kinds import COMPARED
from tests.trainer.same_bytes.killed_and_reproduced import ByWorkers, assert_same_bytes
from trainer.settings import TrainerSettings

pytestmark = pytest.mark.trains

IN_CI = ("lora", "qlora")
"""A job in a process of its own, and one with an optional library; `tests/trainer/beside` has light ones."""


def on_demand(kind: Trained) -> tuple[pytest.MarkDecorator, ...]:
    """Return the mark of a kind that continuous integration leaves out."""
    return () if kind.name in IN_CI else (pytest.mark.same_bytes,)


@pytest.mark.parametrize("kind", [pytest.param(kind, id=kind.name, marks=on_demand(kind)) for kind in COMPARED])
def test_a_killed_job_and_a_reproduction_of_it_have_the_same_bytes(
    registry: Registry, settings: TrainerSettings, kind: Trained
) -> None:
    assert_same_bytes(registry, settings, kind, ByWorkers())
