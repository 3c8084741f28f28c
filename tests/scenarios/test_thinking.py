"""Anthropic's SDK meets a scripted engine that thinks and reads pictures, which the bundled model does not."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import orjson
import pytest

from gateway.settings import GatewaySettings
from registry.database import Registry
from registry.states import ReplicaState
from registry.types import Base, Replica
from tests.gateway.served import ServedGateway
from tests.scenarios.test_sdk_walks import place_of, run_program
from tests.stub_engine import StubEngine, answer, stream
from tests.waiting import wait_for

pytestmark = pytest.mark.scenario

PROGRAM: Final = Path(__file__).parent / "clients" / "thinking_walk.py"
ANSWER: Final = {"id": "chatcmpl-1", "model": "tiny"}
USAGE: Final = {"prompt_tokens": 4, "completion_tokens": 3, "total_tokens": 7}
SAID: Final = {"role": "assistant", "content": "Four.", "reasoning_content": "Two and two."}
WHOLE: Final = answer(
    200, orjson.dumps(ANSWER | {"choices": [{"index": 0, "message": SAID, "finish_reason": "stop"}], "usage": USAGE})
)
FAULT: Final = {"message": "messages[0].content[1].type must be text", "param": "messages[0].content[1].type"}
REFUSED: Final = answer(400, orjson.dumps({"error": FAULT | {"type": "invalid_request_error", "code": None}}))


def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + orjson.dumps(ANSWER | {"choices": [choice]}) + b"\n\n"


STREAMED: Final = stream(
    chunk({"role": "assistant"}),
    chunk({"reasoning_content": "Two "}),
    chunk({"reasoning_content": "and two."}),
    chunk({"content": "Four."}, "stop"),
    b"data: " + orjson.dumps(ANSWER | {"choices": [], "usage": USAGE}) + b"\n\n",
    b"data: [DONE]\n\n",
)


def test_thoughts_and_pictures_pass_through_a_whole_gateway(sqlite_registry: Registry, base: Base) -> None:
    sqlite_registry.bases.enter(base)
    engine = StubEngine(WHOLE, STREAMED, WHOLE, REFUSED)
    row = Replica(
        id="r1",
        base="tiny",
        engine="transformers",
        url=engine.url,
        state=ReplicaState.READY,
        capacity=8,
        slots=(),
        message="",
        started_at=0.0,
        heartbeat_at=0.0,
    )
    with closing(engine), ServedGateway(GatewaySettings(route_refresh_s=0.05), sqlite_registry) as gateway:
        sqlite_registry.replicas.report(row)
        wait_for(lambda: gateway.gateway.feed.table.endpoints)
        told = run_program(
            str(place_of("clients") / "bin" / "python"),
            str(PROGRAM),
            LORRY_URL=f"http://127.0.0.1:{gateway.port}",
            LORRY_MODEL="tiny",
            LORRY_ENCODER="none",
        )
    steps = [json.loads(line)["step"] for line in told.splitlines()]
    assert steps == ["thinking", "streamed thinking", "picture", "picture refused"]
    sent = [json.loads(body) for body in engine.bodies]
    assert [turn["role"] for turn in sent[1]["messages"]] == ["user", "assistant", "user"]
    assert sent[2]["messages"][0]["content"][1]["image_url"]["url"].startswith("data:image/png;base64,")
