"""A replica's board stops reporting when it is stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from engines.replica.board import Board
from engines.replica.report import Phase, ReplicaReport


class Reports:
    """A journal that keeps every report."""

    def __init__(self) -> None:
        self.reports: list[ReplicaReport] = []

    def wanted(self) -> Mapping[str, str]:
        return {}

    def fetch(self, artifact: str) -> Path:
        raise OSError(artifact)

    def report(self, report: ReplicaReport) -> None:
        self.reports.append(report)


async def pass_steps(count: int) -> None:
    """Everybody who can go on does so, so many times."""
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("steps", range(5))
def test_a_cancellation_that_comes_with_a_change_is_not_lost(steps: int) -> None:
    """So many steps of the loop after the change: a drain says that it drains and ends the reports at once."""

    async def change_and_cancel() -> set[asyncio.Task[None]]:
        board = Board(Reports(), beat_s=30.0)
        running = asyncio.create_task(board.run())
        board.set_phase(Phase.READY)
        await board.reported()
        await pass_steps(10)  # it waits for the next change
        board.set_phase(Phase.DRAINING)
        await pass_steps(steps)
        running.cancel()
        _, alive = await asyncio.wait({running}, timeout=20.0)
        for task in alive:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        return alive

    assert asyncio.run(change_and_cancel()) == set()
