"""A tenth of what `make fuzz` sends: no request makes a gateway fail, swell or stall, or answer in another way."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.fuzz.fuzzing import fuzz

SEED = 1
"""Always the same requests here; `make fuzz` takes others at each run."""

pytestmark = pytest.mark.fuzz


@pytest.mark.parametrize("with_keys", [False, True])
def test_whatever_is_sent_is_answered_as_promised(tmp_path: Path, with_keys: bool) -> None:
    numbers = range(2500, 5000) if with_keys else range(2500)
    figures = asyncio.run(fuzz(tmp_path, SEED, numbers, with_keys=with_keys))
    assert figures.requests == len(numbers)
    assert not figures.faults, figures.text()
