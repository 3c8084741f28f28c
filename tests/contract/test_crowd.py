"""Our own server answers 429 when it is full; the other servers let requests wait without a bound."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.contract.engine_host import EngineHost, wait_until
from tests.contract.kinds import OWN

pytestmark = pytest.mark.parametrize("kind", OWN, indirect=True)


def test_a_full_queue_answers_429_with_the_time_to_come_again(narrow_host: EngineHost) -> None:
    endless = narrow_host.body(max_tokens=400, ignore_eos=True, stream=True)
    with (
        narrow_host.http.stream("POST", "/v1/chat/completions", json=endless) as running,
        ThreadPoolExecutor(1) as pool,
    ):
        lines = running.iter_lines()
        next(lines)
        waiting = pool.submit(narrow_host.say)
        wait_until(lambda: narrow_host.metric("engine_requests_waiting") == 1)
        refused = narrow_host.http.post("/v1/chat/completions", json=narrow_host.body())
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["code"] == "queue_full"
        running.close()
        assert waiting.result(30) == "The capital of France is Paris."
