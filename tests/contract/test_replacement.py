"""A real server with fixed adapters gets another set by a second process, and requests continue meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from engines.address import authorization_of, shown_address
from engines.catalog import adapter_fields, build_engine
from engines.replica.adapter_sets import EngineSource, Pace
from engines.replica.replica import EngineReplica
from engines.settings import EngineSettings
from tests.contract.kinds import FIXED
from tests.engines.replica.scripted_engine import Notebook

CHANGE_S = 240.0
PACE = Pace(tick_s=0.1, unroute_s=1.0, settle_s=0.5, drain_timeout_s=60.0)


@pytest.fixture(scope="session", params=FIXED)
def kind(request: pytest.FixtureRequest) -> str:
    """A kind whose adapters are fixed at launch."""
    name: str = request.param
    return name


@dataclass(slots=True)
class Answered:
    """A prover that is content with an answer unlike the base model's, and says which."""

    kind: str
    texts: dict[str, str] = field(default_factory=dict)

    async def prove(self, url: str, served_name: str, folder: Path) -> Answered:
        async with httpx2.AsyncClient(
            base_url=shown_address(url), headers=authorization_of(url), timeout=60.0, trust_env=False
        ) as http:
            self.texts[served_name] = await say(http, dict(adapter_fields(self.kind, served_name)))
            self.texts["base"] = await say(http, {"model": "base"})
        return self

    @property
    def passed(self) -> bool:
        return len(set(self.texts.values())) == len(self.texts)

    @property
    def message(self) -> str:
        return str(self.texts)

    @property
    def remark(self) -> str:
        return ""

    def as_json(self) -> dict[str, Any]:
        return {"texts": dict(self.texts)}


def chat_body(**fields: Any) -> dict[str, Any]:
    """A greedy chat with the base model, changed by *fields*."""
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    return {"model": "base", "messages": messages, "temperature": 0, "max_tokens": 12} | fields


async def say(http: httpx2.AsyncClient, fields: dict[str, str]) -> str:
    answer = await http.post("/v1/chat/completions", json=chat_body(**fields))
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["message"]["content"])


class Folders(Notebook):
    """A journal whose artifacts are adapters on disk."""

    def __init__(self, folders: dict[str, Path], *wanted: str) -> None:
        super().__init__(*wanted)
        self._folders = folders

    def fetch(self, artifact: str) -> Path:
        return self._folders[artifact.removeprefix("digest of ")]


async def asking(notebook: Notebook, answers: list[str]) -> None:
    """Ask the base model where the latest report says, as gateways do, again and again."""
    async with httpx2.AsyncClient(timeout=120.0, trust_env=False) as http:
        while True:
            url = notebook.last.url
            headers = authorization_of(url)
            answer = await http.post(
                f"{shown_address(url)}/v1/chat/completions", json=chat_body(max_tokens=4), headers=headers
            )
            answers.append(answer.text)
            assert answer.status_code == 200


def test_another_set_takes_over_without_a_lost_request(
    kind: str, settings_of: Callable[..., EngineSettings], adapters: dict[str, Path]
) -> None:
    async def story() -> None:
        settings, prover = settings_of(max_adapters=3, max_batch=2), Answered(kind)
        notebook = Folders(adapters, "one@1")
        source = EngineSource(build=lambda wanted: build_engine(settings, wanted), live_adapters=False)
        replica = EngineReplica(source, notebook, prover.prove, PACE)
        running = asyncio.create_task(replica.run())
        try:
            await ready(notebook, {"one@1"})
            before, answers = notebook.last.url, list[str]()
            callers = [asyncio.create_task(asking(notebook, answers)) for _ in range(2)]
            notebook.wanted_names = ["one@1", "two@1"]
            await ready(notebook, {"one@1", "two@1"})
            assert notebook.last.url != before
            enough = len(answers) + 2
            async with asyncio.timeout(CHANGE_S):
                while len(answers) < enough or await is_there(before):  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
            assert [caller.done() for caller in callers] == [False, False]
            for caller in callers:
                caller.cancel()
        finally:
            running.cancel()
            await replica.drain(0.0, 10.0)

    asyncio.run(story())


async def ready(notebook: Notebook, names: set[str]) -> None:
    async with asyncio.timeout(CHANGE_S):
        while notebook.ready != names:  # noqa: ASYNC110 - what is waited for is on the other side of the protocol
            await asyncio.sleep(0.1)


async def is_there(url: str) -> bool:
    async with httpx2.AsyncClient(timeout=5.0, trust_env=False) as http:
        try:
            await http.get(url + "/health")
        except httpx2.TransportError:
            return False
    return True
