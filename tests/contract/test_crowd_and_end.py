"""A full server says so, and one that is told to end finishes what it has. The last test ends the server."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.contract.engine_host import EngineHost, chat_body, wait_until

pytestmark = pytest.mark.engine


def test_a_full_queue_answers_429_with_the_time_to_come_again(narrow_host: EngineHost) -> None:
    endless = chat_body(max_tokens=400, ignore_eos=True, stream=True)
    with (
        narrow_host.http.stream("POST", "/v1/chat/completions", json=endless) as running,
        ThreadPoolExecutor(1) as pool,
    ):
        lines = running.iter_lines()
        next(lines)
        waiting = pool.submit(narrow_host.say)
        wait_until(lambda: narrow_host.metric("engine_requests_waiting") == 1)
        refused = narrow_host.http.post("/v1/chat/completions", json=chat_body())
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["code"] == "queue_full"
        running.close()
        assert waiting.result(30) == "The capital of France is Paris."


def test_an_engine_told_to_stop_finishes_its_streams(narrow_host: EngineHost) -> None:
    body = chat_body(max_tokens=60, ignore_eos=True, stream=True)
    with (
        narrow_host.http.stream("POST", "/v1/chat/completions", json=body) as answer,
        ThreadPoolExecutor(1) as pool,
    ):
        lines = answer.iter_lines()
        next(lines)
        stopping = pool.submit(narrow_host.call, narrow_host.engine.stop(30.0))
        wait_until(lambda: not narrow_host.call(narrow_host.engine.is_healthy()))
        events = [line.removeprefix("data: ") for line in lines if line]
        stopping.result(30)
    assert events[-1] == "[DONE]"
    assert json.loads(events[-2])["choices"][0]["finish_reason"] == "length"
    assert narrow_host.call(narrow_host.engine.wait_exit()) == 0
