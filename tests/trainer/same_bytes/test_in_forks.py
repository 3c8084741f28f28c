"""Jobs of every kind give the same bytes again: killed and continued, and run anew in another process.

Their children are forks, which spares each the seven seconds of its imports.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from registry.database import Registry
from tests.kills.asked import Trained
from tests.trainer.forks.forked_children import ForkedChildren
from tests.trainer.same_bytes.compared_kinds import COMPARED
from tests.trainer.same_bytes.killed_and_reproduced import InForks, assert_same_bytes
from trainer.settings import TrainerSettings

pytestmark = pytest.mark.trains

NEEDS_A_LIBRARY = "qlora"
"""The process of the forks has left out bitsandbytes."""


@pytest.fixture(scope="module")
def other_forks() -> Iterator[ForkedChildren]:
    """Forks of another process than `forks`."""
    started = ForkedChildren()
    yield started
    started.close()


@pytest.mark.parametrize(
    "kind", [kind for kind in COMPARED if kind.name != NEEDS_A_LIBRARY], ids=lambda kind: kind.name
)
def test_a_killed_job_and_a_reproduction_of_it_have_the_same_bytes(
    registry: Registry, settings: TrainerSettings, forks: ForkedChildren, other_forks: ForkedChildren, kind: Trained
) -> None:
    assert_same_bytes(registry, settings, kind, InForks(forks, other_forks))
