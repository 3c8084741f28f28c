"""The stepping thread delivers what it makes, and tells everyone when it cannot go on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from torch import Tensor

from engines.transformers.errors import EngineFailed
from engines.transformers.metrics import EngineMetrics
from engines.transformers.sampling import SamplingParams, chooser
from engines.transformers.scheduler import Row, Scheduler, StepPlan
from engines.transformers.sequence import Delta, FinishReason, Sequence
from engines.transformers.stepper import Stepper
from engines.transformers.text import TextStream

pytestmark = pytest.mark.anyio

News = Delta | Exception


class Constant:
    """A model that always wants the same token, and breaks when it is asked for a broken one."""

    def step(self, plan: StepPlan) -> tuple[list[Row], Tensor]:
        rows = [*plan.decodes, *plan.prompts]
        if any(row.sequence.tokens[0] == 666 for row in rows):
            raise RuntimeError("no more memory")
        logits = torch.zeros(len(rows), 1000)
        logits[:, 500] = 1.0
        return rows, logits


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
    deltas = [await asyncio.wait_for(news.get(), 10) for _ in range(3)]
    assert [delta.finish for delta in deltas if isinstance(delta, Delta)] == [None, None, FinishReason.LENGTH]
    stepper.stop()
    await asyncio.to_thread(thread.join, 10)
    assert not thread.is_alive()


async def test_a_broken_model_fails_all_that_is_open_and_all_that_comes(codec: Tokenizer) -> None:
    news: asyncio.Queue[News] = asyncio.Queue()
    failed = asyncio.Event()
    stepper = Stepper(Constant(), Scheduler(1, 100), EngineMetrics(), threads=1)
    thread = stepper.start(asyncio.get_running_loop(), failed.set)
    stepper.submit([sequence(codec, 666, news.put_nowait), sequence(codec, 1, news.put_nowait)])
    assert [type(await asyncio.wait_for(news.get(), 10)) for _ in range(2)] == [EngineFailed] * 2
    await asyncio.wait_for(failed.wait(), 10)
    stepper.submit([sequence(codec, 1, news.put_nowait)])
    assert isinstance(await asyncio.wait_for(news.get(), 10), EngineFailed)
    stepper.stop()
    await asyncio.to_thread(thread.join, 10)
