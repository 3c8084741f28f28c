"""Results that the registry does not take are written again, and nothing is asked meanwhile beyond a bound."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from gateway.batches.line_results import MOST_UNKEPT, LineResults
from registry.batches.batch import BatchResult
from registry.errors import LeaseLost, RegistryUnavailable


class Book:
    """A registry that fails as often as it is told, and keeps what it is given."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.kept: list[int] = []

    def record(self, results: Sequence[BatchResult]) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.kept += [result.line for result in results]


def result(line: int) -> BatchResult:
    return BatchResult(line=line, is_error=False, record="{}")


@pytest.mark.long
def test_results_outlast_a_registry_that_is_away_for_a_moment() -> None:
    async def story() -> None:
        book = Book(RegistryUnavailable("away"))
        results = LineResults(book.record)
        for line in range(MOST_UNKEPT):
            await results.add(result(line))
        waits = asyncio.create_task(results.has_room())
        writing = asyncio.create_task(results.run())
        async with asyncio.timeout(20):
            while not results.problem:  # noqa: ASYNC110  a plain attribute
                await asyncio.sleep(0)
            assert (results.problem, waits.done()) == ("away", False)
            await results.kept()
            await waits
        assert book.kept == list(range(MOST_UNKEPT))
        assert results.problem == ""
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)

    asyncio.run(story())


def test_a_lost_lease_ends_the_writing() -> None:
    async def story() -> None:
        results = LineResults(Book(LeaseLost("another gateway's")).record)
        await results.add(result(1))
        async with asyncio.timeout(20):
            await results.run()

    with pytest.raises(LeaseLost):
        asyncio.run(story())
