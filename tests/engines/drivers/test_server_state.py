"""The offered paths are read from the replies of a server; the contract suite asks the real servers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from engines.catalog import ENGINES
from engines.drivers.openai_server import OpenAiServer
from engines.drivers.server_state import offered_paths
from tests.loopback import LoopbackHandler, LoopbackServer

TEXT = {"/v1/chat/completions", "/v1/completions", "/tokenize"}


@contextmanager
def server(**pages: Any) -> Iterator[str]:
    """The address of a server that has these pages, without their slash, and 404 for all else."""

    class Handler(LoopbackHandler):
        def do_GET(self) -> None:
            page = pages.get(self.path[1:].replace(".", "_"))
            self.reply(404 if page is None else 200, json.dumps(page).encode())

    listening = LoopbackServer(Handler)
    yield listening.url
    listening.close()


def offered(kind: str, **pages: Any) -> frozenset[str]:
    async def ask(url: str) -> frozenset[str]:
        http = OpenAiServer(url, timeout_s=60.0)
        try:
            return await offered_paths(kind, http)
        finally:
            await http.aclose()

    with server(**pages) as url:
        return asyncio.run(ask(url))


def test_every_kind_can_be_asked() -> None:
    for kind in ENGINES:
        assert offered(kind, openapi_json={"paths": {"/v1/chat/completions": {}}}, model_info={}) <= ENGINES[kind].paths


def test_vllm_offers_what_it_has_routes_for() -> None:
    routes: dict[str, Any] = {"paths": {"/v1/embeddings": {}, "/v1/rerank": {}, "/tokenize": {}, "/pooling": {}}}
    assert offered("vllm", openapi_json=routes) == {"/v1/embeddings", "/v1/rerank", "/tokenize"}


def test_vllm_that_lists_no_routes_is_taken_for_one_with_a_text_model() -> None:
    assert offered("vllm") == TEXT


@pytest.mark.parametrize(
    ("model", "paths"),
    [
        ({"is_generation": True, "has_audio_understanding": False}, TEXT),
        ({"is_generation": True, "has_audio_understanding": True}, TEXT | {"/v1/audio/transcriptions"}),
        ({"is_generation": False}, {"/v1/embeddings", "/v1/rerank", "/tokenize"}),
    ],
)
def test_sglang_offers_what_its_model_can_do(model: dict[str, bool], paths: set[str]) -> None:
    assert offered("sglang", model_info=model) == paths


def test_our_own_server_lists_what_its_model_is_for() -> None:
    base = {"id": "base", "parent": None, "paths": ["/v1/embeddings", "/rerank", "/pooling"]}
    listing = {"data": [base, {"id": "one@1", "parent": "base"}]}
    assert offered("transformers", **{"v1/models": listing}) == {"/v1/embeddings", "/rerank"}
