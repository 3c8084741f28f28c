"""A tenth of `make kills`: parts of Lorry are killed at random points, and every job ends as if undisturbed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kills.asked import KINDS
from tests.kills.drill import drill
from tests.kills.stage import Stage

pytestmark = pytest.mark.trains


def test_kills_lose_no_job_and_change_no_result(tmp_path: Path) -> None:
    kinds = [kind for kind in KINDS if kind.name in ("lora", "two", "brought")]
    outcome = drill(Stage(tmp_path), 7, 5, lambda _: None, kinds)
    assert outcome.faults == []
    assert outcome.jobs >= 1
    assert outcome.kinds.total() + outcome.failed.total() == outcome.jobs
