"""Odd numbers, depths and names in inference requests are the client's error, whatever a rollout makes of the body."""

from __future__ import annotations

import time

import orjson
import pytest

from gateway.edge.form import LONGEST_NAME
from gateway.edge.http_message import JsonBody
from gateway.errors import InvalidRequest
from gateway.routing.paths import HOT_PATHS
from gateway.routing.routing import sticky_key

CHAT = HOT_PATHS[b"/v1/chat/completions"]


@pytest.mark.parametrize(
    ("value", "part"),
    [
        (b"1e999", "seed has a number that is out of range"),
        (b"[[-1e999]]", "seed has a number that is out of range"),
        (b"1" + b"0" * 5000, "seed has a number that is out of range"),
        (b"[" * 2000 + b"]" * 2000, "nested too deeply"),
        (b'"\\ud800"', "not JSON"),
        (b'"\xed\xa0\x80"', "not JSON in UTF-8"),
    ],
)
def test_a_body_that_a_rollout_cannot_read_is_refused_by_the_name_of_the_member(value: bytes, part: str) -> None:
    with pytest.raises(InvalidRequest, match=part):
        JsonBody(b'{"model":"support","messages":[],"seed":' + value + b"}", CHAT).whole()


def test_a_huge_name_of_a_model_is_refused_at_once() -> None:
    body = b'{"model":"' + b"x" * 8_000_000 + b'"}'
    began = time.process_time()
    orjson.loads(body)
    decoded = time.process_time()
    with pytest.raises(InvalidRequest, match="model must be") as refused:
        JsonBody(body, CHAT)
    assert time.process_time() - decoded < 100 * (decoded - began)
    assert len(str(refused.value)) < LONGEST_NAME


@pytest.mark.parametrize("prompt", [b"[-9223372036854775809]", b"[" * 400 + b"]" * 400])
def test_a_prompt_that_gives_no_key_of_a_conversation_is_refused(prompt: bytes) -> None:
    body = JsonBody(b'{"model":"support","input":' + prompt + b"}", HOT_PATHS[b"/v1/embeddings"]).whole()
    with pytest.raises(InvalidRequest, match="beyond 64 bits, or is nested too deeply"):
        sticky_key(body, None, "")
