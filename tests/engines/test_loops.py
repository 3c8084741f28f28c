"""No error ends a background loop for good, none is silent, and a loop that does not run is known."""

from __future__ import annotations

import asyncio
import logging

import pytest

from engines.loops import Loops, log_failure


async def until(condition: asyncio.Event) -> None:
    async with asyncio.timeout(5):
        await condition.wait()


@pytest.mark.parametrize("how", ["raises", "returns", "is cut off"])
def test_a_loop_that_ends_is_begun_again_and_its_end_is_logged(how: str, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        loops, third, calls = Loops(first_pause_s=0.001), asyncio.Event(), 0

        async def run() -> None:
            nonlocal calls
            calls += 1
            if calls == 3:
                third.set()
                await asyncio.Event().wait()
            if how == "raises":
                raise ZeroDivisionError("by bad luck")
            if how == "is cut off":
                cut = asyncio.get_running_loop().create_future()
                cut.cancel()
                await cut

        loops.start("readings", run)
        assert loops.down() == ()
        await until(third)
        assert loops.restarts == {"readings": 2}
        assert loops.down() == ("readings",)  # it runs, but only just
        assert loops.down(for_s=60.0) == ()
        await loops.aclose()

    asyncio.run(story())
    ended = [record for record in caplog.records if getattr(record, "loop", "") == "readings"]
    assert len(ended) == 2
    assert ended[0].levelno == logging.ERROR
    assert (ended[0].exc_info is not None) == (how != "returns")


def test_a_loop_ends_when_it_is_told_to_also_in_its_pause() -> None:
    async def story() -> None:
        loops, failed = Loops(first_pause_s=60.0), asyncio.Event()

        async def run() -> None:
            failed.set()
            raise KeyError("once")

        loops.start("readings", run)
        await until(failed)
        async with asyncio.timeout(5):
            await loops.aclose()

    asyncio.run(story())


def test_the_pauses_of_a_loop_that_keeps_failing_grow() -> None:
    async def story() -> list[float]:
        loops, enough, times = Loops(first_pause_s=0.02), asyncio.Event(), []

        async def run() -> None:
            times.append(asyncio.get_running_loop().time())
            if len(times) == 4:
                enough.set()
            raise KeyError("again")

        loops.start("readings", run)
        await until(enough)
        await loops.aclose()
        return times

    times = asyncio.run(story())
    assert times[3] - times[2] > 2 * (times[1] - times[0])


def test_the_error_of_a_task_that_nobody_waits_for_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        async def fail() -> None:
            raise KeyError("unseen")

        task = asyncio.create_task(fail(), name="a copy")
        task.add_done_callback(log_failure)
        await asyncio.wait({task})

    asyncio.run(story())
    assert [(record.message, getattr(record, "task", "")) for record in caplog.records] == [
        ("a background task failed", "a copy")
    ]
