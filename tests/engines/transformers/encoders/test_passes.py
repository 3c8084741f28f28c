"""Requests at a time share passes; who leaves takes the texts along; a model that fails fails everybody at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from threading import Event

import numpy as np
import pytest
import torch
from torch import Tensor

from engines.transformers.encoders.metrics import EncoderMetrics
from engines.transformers.encoders.passes import Passes
from engines.transformers.encoders.waiting import TokenRow
from engines.transformers.errors import EngineFailed


class Doubling:
    """A model whose vector is twice the first token; its first pass waits for `go`."""

    def __init__(self) -> None:
        self.passes: list[int] = []
        self.began = Event()
        self.go = Event()

    def run(self, rows: Sequence[TokenRow]) -> Tensor:
        self.began.set()
        assert self.go.wait(60)
        self.passes.append(len(rows))
        return torch.tensor([[2.0 * row.ids[0]] for row in rows])


class Failing:
    def run(self, _rows: Sequence[TokenRow]) -> Tensor:
        raise RuntimeError("out of memory")


def passes_of(runner: Doubling | Failing) -> Passes:
    return Passes(runner, EncoderMetrics(), width=1, pass_tokens=16, threads=1)


@pytest.mark.anyio
async def test_what_comes_during_a_pass_shares_the_next_one() -> None:
    model = Doubling()
    passes = passes_of(model)
    thread = passes.start(asyncio.get_running_loop(), lambda: None)
    first = asyncio.create_task(passes.encode([TokenRow([1])]))
    await asyncio.to_thread(model.began.wait, 10)
    others = [asyncio.create_task(passes.encode([TokenRow([token, 0]), TokenRow([token + 1])])) for token in (2, 5)]
    await asyncio.sleep(0)
    model.go.set()
    answers = await asyncio.gather(first, *others)
    np.testing.assert_array_equal(np.concatenate(answers)[:, 0], [2, 4, 6, 10, 12])
    assert model.passes == [1, 4]
    passes.stop()
    await asyncio.to_thread(thread.join, 10)


@pytest.mark.anyio
async def test_texts_of_a_client_that_left_are_not_read() -> None:
    model = Doubling()
    passes = passes_of(model)
    thread = passes.start(asyncio.get_running_loop(), lambda: None)
    kept = asyncio.create_task(passes.encode([TokenRow([1])]))
    await asyncio.to_thread(model.began.wait, 10)
    left = asyncio.create_task(passes.encode([TokenRow([9])] * 500))
    await asyncio.sleep(0)
    left.cancel()
    await asyncio.wait({left})
    model.go.set()
    np.testing.assert_array_equal(await kept, [[2]])
    np.testing.assert_array_equal(await passes.encode([TokenRow([4])]), [[8]])
    assert model.passes == [1, 1]
    passes.stop()
    await asyncio.to_thread(thread.join, 10)


@pytest.mark.anyio
async def test_a_model_that_fails_fails_those_who_wait_and_those_who_come() -> None:
    passes, failed = passes_of(Failing()), asyncio.Event()
    thread = passes.start(asyncio.get_running_loop(), failed.set)
    for _ in range(2):
        with pytest.raises(EngineFailed):
            await passes.encode([TokenRow([1])])
    assert failed.is_set()
    passes.stop()
    await asyncio.to_thread(thread.join, 10)
