"""The limits of a key count what a request used, however it ended."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

import pytest

from registry.database import Registry
from registry.keys import KeyDraft, KeyLimits, Scope
from tests.gateway.edge.raw_client import send
from tests.gateway.edge.test_faults import STREAM_HEAD, Serve, request, serve
from tests.gateway.edge.test_relay import CHAT, OK
from tests.gateway.served import ServedGateway
from tests.stub_engine import StubHandler, answer
from tests.waiting import wait_for

__all__ = ["serve"]

LIMITS = KeyLimits(requests_per_minute=100, tokens_per_minute=10_000)
PATH = "/v1/chat/completions"


@pytest.fixture
def bearer(sqlite_registry: Registry) -> dict[str, str]:
    """The header of a key with limits."""
    sqlite_registry.keys.create(KeyDraft(name="root", scopes=frozenset(Scope)), actor="ann")
    draft = KeyDraft(name="chat", scopes=frozenset({Scope.INFERENCE}), limits=LIMITS)
    return {"authorization": f"Bearer {sqlite_registry.keys.create(draft, actor='ann').secret}"}


def remaining(gateway: ServedGateway, bearer: dict[str, str]) -> tuple[int, int]:
    """Requests and tokens that are left after one more request of about a token."""
    body = {**CHAT, "max_tokens": 1}
    told = gateway.client.post(PATH, json=body, headers=bearer)
    assert told.status_code == 200
    headers = told.headers
    return int(headers["x-ratelimit-remaining-requests"]), int(headers["x-ratelimit-remaining-tokens"])


def with_key(bearer: dict[str, str], **fields: Any) -> bytes:
    line = b"\r\nauthorization: %b\r\n" % bearer["authorization"].encode()
    return request(**fields).replace(b"\r\n", line, 1)


def test_a_stream_that_its_client_left_counts_what_was_sent(serve: Serve, bearer: dict[str, str]) -> None:
    may_go_on, sent = threading.Event(), [0]

    def talk(handler: StubHandler) -> None:
        event = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
        handler.wfile.write(STREAM_HEAD)
        with contextlib.suppress(OSError):
            while sent[0] < 1000:
                handler.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))
                sent[0] += 1
                assert sent[0] < 5 or may_go_on.wait(60)
        handler.close_connection = True

    gateway = serve([talk, OK])
    with gateway.connect() as connection:
        send(connection, [with_key(bearer, stream=True, max_tokens=9000)])
        wait_for(lambda: sent[0] == 5)
        connection.recv(10_000)
    may_go_on.set()
    wait_for(lambda: not gateway.gateway.edge.under_way)
    requests, tokens = remaining(gateway, bearer)
    assert requests == 98
    assert 8_900 < tokens < 9_975, "the prompt and between 5 and 1000 tokens, not 9000"


def test_a_refusal_of_the_queue_counts_nothing(serve: Serve, bearer: dict[str, str]) -> None:
    opened = threading.Event()

    def slow(handler: StubHandler) -> None:
        opened.wait(60)
        OK(handler)

    gateway = serve([slow], room=1, queue_limit=0, first_byte_timeout_s=60.0)
    with gateway.connect() as first:
        send(first, [with_key(bearer)])
        wait_for(lambda: gateway.gateway.balancer.in_flight("r0") == 1)
        for _ in range(3):
            refused = gateway.client.post(PATH, json={**CHAT, "max_tokens": 3000}, headers=bearer)
            assert refused.json()["error"]["code"] == "overloaded"
            assert refused.headers["x-ratelimit-remaining-requests"] == "99"
        opened.set()
        wait_for(lambda: not gateway.gateway.edge.under_way)
    requests, tokens = remaining(gateway, bearer)
    assert requests == 98
    assert tokens > 9_000


def test_a_refusal_of_the_engine_counts_no_tokens(serve: Serve, bearer: dict[str, str]) -> None:
    gateway = serve([answer(400, b'{"error":{"message":"no"}}'), OK])
    assert gateway.client.post(PATH, json={**CHAT, "max_tokens": 9000}, headers=bearer).status_code == 400
    requests, tokens = remaining(gateway, bearer)
    assert requests == 98
    assert tokens > 9_900
