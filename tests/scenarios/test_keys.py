"""Keys under `lorry up`: two gateway processes that open and close together, and count together in Redis."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator

import httpx2
import pytest

from gateway.settings import BUNDLED_BASE
from tests.redis_server import RedisServer
from tests.up_process import Up
from tests.waiting import wait_for

pytestmark = [pytest.mark.scenario, pytest.mark.redis]

CONNECTIONS = 30
"""Enough that both gateways get some of them."""
CHAT = {"model": BUNDLED_BASE, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    started = RedisServer()
    yield started
    started.stop()


@pytest.fixture(scope="module")
def settings(redis_server: RedisServer) -> str:
    return f'[gateway]\nlimits_url = "{redis_server.url}"\n'


def ask(up: Up, key: str) -> int:
    """The status of a chat on a connection of its own."""
    headers = {"authorization": f"Bearer {key}"}
    return int(httpx2.post(f"{up.url}/v1/chat/completions", json=CHAT, headers=headers, trust_env=False).status_code)


def make_key(up: Up, *words: str) -> str:
    secret: str = json.loads(up.lorry("keys", "create", *words, "--json"))["key"]
    return secret


def test_with_the_first_key_both_gateways_ask_for_one(up: Up) -> None:
    assert ask(up, "none") == 200
    found = re.search(r"^sk-lorry-\S+$", up.lorry("keys", "create", "--name", "root"), re.MULTILINE)
    assert found is not None
    assert {ask(up, "none") for _ in range(CONNECTIONS)} == {401}
    assert {ask(up, found.group()) for _ in range(CONNECTIONS)} == {200}
    up.api_key = found.group()


def test_a_revoked_key_is_out_within_a_second(up: Up) -> None:
    secret = make_key(up, "--name", "chat")
    answered: list[tuple[float, int]] = []
    stop = threading.Event()

    def hammer() -> None:
        while not stop.is_set():
            status = ask(up, secret)
            answered.append((time.time(), status))

    client = threading.Thread(target=hammer)
    client.start()
    wait_for(lambda: len(answered) > 20)
    revoked = json.loads(up.lorry("keys", "revoke", "chat", "--json"))
    after = len(answered)
    wait_for(lambda: len(answered) > after + CONNECTIONS)
    stop.set()
    client.join()
    assert {status for _, status in answered} == {200, 401}
    let_in = [at - revoked["revoked_at"] for at, status in answered if status == 200]
    print(f"last answer {max(let_in):.3f} s after the key was revoked")  # noqa: T201
    assert max(let_in) < 1.0
    assert {status for _, status in answered[after + 1 :]} == {401}


def test_gateways_count_a_minute_together(up: Up) -> None:
    secret = make_key(up, "--name", "few", "--requests-per-minute", "10")
    began = time.monotonic()
    statuses = [ask(up, secret) for _ in range(CONNECTIONS)]
    assert time.monotonic() - began < 60
    assert (statuses.count(200), statuses.count(429)) == (10, CONNECTIONS - 10)
