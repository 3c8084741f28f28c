"""The stepping thread delivers its output, and reports to every request when it fails."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from torch import Tensor

from engines.transformers.cache import StepAbandoned
from engines.transformers.errors import EngineFailed
from engines.transformers.metrics import EngineMetrics
from engines.transformers.sampling import SamplingParams, chooser
from engines.transformers.scheduler import Row, Scheduler, StepPlan
from engines.transformers.sequence import Delta, FinishReason, Sequence
from engines.transformers.stepper import Stepper
from engines.transformers.text import TextStream
from tests.waiting import wait_for

pytestmark = pytest.mark.anyio

News = Delta | Exception


class Constant:
    """A model that always wants the same token, and breaks when it is asked for a broken one."""

    def step(self, plan: StepPlan, gives_way: Callable[[], bool]) -> tuple[list[Row], Tensor]:
        assert not gives_way()
        rows = [*plan.decodes, *plan.prompts]
        if any(row.sequence.tokens[0] == 666 for row in rows):
            raise RuntimeError("no more memory")
        logits = torch.zeros(len(rows), 1000)
        logits[:, 500] = 1.0
        return rows, logits


class SlowForCopies(Constant):
    """A model that is at a step for copies until it is to give way, if anybody is to come."""

    def __init__(self) -> None:
        self.copies_run = threading.Event()
        self.is_quick = False

    def step(self, plan: StepPlan, gives_way: Callable[[], bool]) -> tuple[list[Row], Tensor]:
        if plan.is_for_copies and not self.is_quick:
            self.copies_run.set()
            wait_for(gives_way)
            self.is_quick = True
            raise StepAbandoned
        return super().step(plan, gives_way)


@pytest.fixture(scope="module")
def codec(model_folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(model_folder / "tokenizer.json"))


def sequence(codec: Tokenizer, first_token: int, deliver: Callable[[News], None]) -> Sequence:
    return Sequence(
        tokens=[first_token],
        adapter=0,
        limit=3,
        chooser=chooser(SamplingParams(temperature=0), 0),
        text=TextStream(codec, []),
        end_tokens=frozenset(),
        deliver=deliver,
        arrived_at=0.0,
    )


async def test_news_come_in_order_until_the_end(codec: Tokenizer) -> None:
    news: asyncio.Queue[News] = asyncio.Queue()
    stepper = Stepper(Constant(), Scheduler(2, 100), EngineMetrics(), threads=1)
    thread = stepper.start(asyncio.get_running_loop(), lambda: None)
    stepper.submit([sequence(codec, 1, news.put_nowait)])
    deltas = [await asyncio.wait_for(news.get(), 60) for _ in range(3)]
    assert [delta.finish for delta in deltas if isinstance(delta, Delta)] == [None, None, FinishReason.LENGTH]
    stepper.stop()
    await asyncio.to_thread(thread.join, 10)
    assert not thread.is_alive()


async def test_a_step_for_copies_is_abandoned_when_a_client_comes_and_run_again(codec: Tokenizer) -> None:
    news: asyncio.Queue[tuple[str, News]] = asyncio.Queue()
    runner = SlowForCopies()
    stepper = Stepper(runner, Scheduler(2, 100), EngineMetrics(), threads=1)
    thread = stepper.start(asyncio.get_running_loop(), lambda: None)
    copy = sequence(codec, 1, lambda each: news.put_nowait(("copy", each)))
    copy.is_copy = True
    stepper.submit([copy])
    assert await asyncio.to_thread(runner.copies_run.wait, 10)
    stepper.submit([sequence(codec, 2, lambda each: news.put_nowait(("client", each)))])
    delivered = [await asyncio.wait_for(news.get(), 60) for _ in range(6)]
    for who in ("copy", "client"):
        finishes = [delta.finish for one, delta in delivered if one == who and isinstance(delta, Delta)]
        assert finishes == [None, None, FinishReason.LENGTH]
    stepper.stop()
    await asyncio.to_thread(thread.join, 10)


async def test_a_broken_model_fails_all_that_is_open_and_all_that_comes(codec: Tokenizer) -> None:
    news: asyncio.Queue[News] = asyncio.Queue()
    failed = asyncio.Event()
    stepper = Stepper(Constant(), Scheduler(1, 100), EngineMetrics(), threads=1)
    thread = stepper.start(asyncio.get_running_loop(), failed.set)
    stepper.submit([sequence(codec, 666, news.put_nowait), sequence(codec, 1, news.put_nowait)])
    assert [type(await asyncio.wait_for(news.get(), 60)) for _ in range(2)] == [EngineFailed] * 2
    await asyncio.wait_for(failed.wait(), 60)
    stepper.submit([sequence(codec, 1, news.put_nowait)])
    assert isinstance(await asyncio.wait_for(news.get(), 60), EngineFailed)
    stepper.stop()
    await asyncio.to_thread(thread.join, 10)
