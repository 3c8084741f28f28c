"""A form that the engines of a model would pass over in silence is refused by the gateway; an engine sees nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from gateway.settings import GatewaySettings
from registry.database import Registry
from registry.types import Base
from tests.gateway.replica_rows import replica_row
from tests.gateway.served import ServedGateway
from tests.stub_engine import StubEngine, answer
from tests.waiting import wait_for

CHAT = "/v1/chat/completions"
SETTINGS = GatewaySettings(replica_wait_s=2.0, route_refresh_s=0.05)
OK = answer(200, b'{"choices": [{"message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}]}')
LOOSE = {"type": "object", "properties": {"a": {"not": {"type": "null"}}}}
EVEN = {"type": "integer", "multipleOf": 2}
TOOL = {"type": "function", "function": {"name": "f", "parameters": LOOSE}}
STRICT = {"type": "function", "function": {"name": "f", "parameters": LOOSE, "strict": True}}
CAREFUL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "strict": True}}

Pool = Callable[..., tuple[ServedGateway, StubEngine]]


def by_schema(schema: Any) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}}


@pytest.fixture
def pool(sqlite_registry: Registry, base: Base) -> Iterator[Pool]:
    """Serves the base model by one engine of a kind."""
    sqlite_registry.bases.enter(base)
    engine = StubEngine(OK)
    with closing(engine), ServedGateway(SETTINGS, sqlite_registry) as gateway:

        def serve(kind: str, *, reads_calls: bool = True) -> tuple[ServedGateway, StubEngine]:
            row = replica_row("r1", engine=kind, url=engine.url, pool="chats", reads_calls=reads_calls)
            sqlite_registry.replicas.report(row)
            served = gateway.gateway
            wait_for(lambda: [e.engine for e in served.feed.table.endpoints] == [kind])
            return gateway, engine

        yield serve


def asked(gateway: ServedGateway, fields: dict[str, Any], path: str = CHAT) -> tuple[int, dict[str, Any]]:
    given: dict[str, Any] = {"prompt": "hi"} if path == "/v1/completions" else {}
    given = given or {"messages": [{"role": "user", "content": "hi"}]}
    found = gateway.client.post(path, json={"model": "tiny"} | given | fields)
    return found.status_code, found.json().get("error", {})


@pytest.mark.parametrize(
    ("kind", "fields", "param", "words"),
    [
        (
            "lmdeploy",
            by_schema(LOOSE),
            "response_format.json_schema.schema",
            "lmdeploy engines for its 'not' at #/prop",
        ),
        ("sglang", by_schema(LOOSE), "response_format.json_schema.schema", "sglang engines for its 'not'"),
        ("vllm", by_schema(LOOSE), "response_format.json_schema.schema", "vllm engines for its 'not'"),
        ("sglang", by_schema(EVEN), "response_format.json_schema.schema", "'multipleOf'"),
        ("vllm", {"structured_outputs": {"json": LOOSE}}, "structured_outputs.json", "'not'"),
        ("vllm", {"structured_outputs": {"regex": "a^b"}}, "structured_outputs.regex", "has ^ or $ within"),
        ("vllm", {"guided_json": EVEN}, "guided_json", "send response_format or structured_outputs"),
        ("vllm", {"functions": [{"name": "f"}]}, "functions", "send tools"),
        ("sglang", {"structured_outputs": {"choice": ["a"]}}, "structured_outputs", "send ebnf or regex or response"),
        ("lmdeploy", {"guided_regex": "a"}, "guided_regex", "send response_format"),
        ("lmdeploy", {"response_format": {"type": "structural_tag"}}, "response_format.type", "regex_schema"),
        ("lmdeploy", {"tools": [TOOL, CAREFUL]}, "tools[1].function.strict", "not enforced by lmdeploy engines"),
        ("sglang", {"tools": [STRICT]}, "tools[0].function.parameters", "'not'"),
    ],
)
def test_what_an_engine_would_pass_over_is_refused_with_the_field(
    pool: Pool, kind: str, fields: dict[str, Any], param: str, words: str
) -> None:
    gateway, engine = pool(kind)
    status, error = asked(gateway, fields)
    assert (status, error["code"], error["param"]) == (400, "not_enforceable", param)
    assert error["message"].startswith(param)
    assert words in error["message"]
    assert engine.bodies == []


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("lmdeploy", by_schema({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})),
        ("lmdeploy", {"response_format": {"type": "regex_schema", "regex_schema": "a+"}, "tools": [TOOL]}),
        ("lmdeploy", {"response_format": {"type": "json_object"}}),
        ("sglang", {"regex": "^a+$", "tools": [CAREFUL]}),
        ("vllm", by_schema(EVEN)),
        ("vllm", {"structured_outputs": {"choice": ["a", "b"]}, "tools": [STRICT], "tool_choice": "none"}),
        ("transformers", by_schema(LOOSE)),
    ],
)
def test_what_is_enforced_or_refused_by_the_engine_itself_reaches_it(
    pool: Pool, kind: str, fields: dict[str, Any]
) -> None:
    gateway, engine = pool(kind)
    assert asked(gateway, fields) == (200, {})
    assert len(engine.bodies) == 1


def test_lmdeploy_prescribes_nothing_to_a_text_completion(pool: Pool) -> None:
    gateway, engine = pool("lmdeploy")
    path = "/v1/completions"
    status, error = asked(gateway, {"response_format": {"type": "json_object"}}, path)
    assert (status, error["param"]) == (400, "response_format")
    assert asked(gateway, {"response_format": {"type": "text"}}, path) == (200, {})
    assert len(engine.bodies) == 1


@pytest.mark.parametrize("kind", ["sglang", "vllm", "lmdeploy"])
def test_tools_are_refused_where_nothing_reads_the_calls(pool: Pool, kind: str) -> None:
    gateway, engine = pool(kind, reads_calls=False)
    status, error = asked(gateway, {"tools": [TOOL]})
    assert (status, error["code"], error["param"]) == (400, "tool_calls_not_read", "tools")
    assert "pool 'chats'" in error["message"]
    assert "tool_call_parser" in error["message"]
    idle: list[dict[str, Any]] = [{"tools": []}, {"tools": [TOOL], "tool_choice": "none"}, {}]
    for quiet in idle:
        assert asked(gateway, quiet) == (200, {})
    assert len(engine.bodies) == 3


def test_other_apis_name_the_field_that_their_client_sent(pool: Pool) -> None:
    gateway, engine = pool("sglang", reads_calls=False)
    body = {"model": "tiny", "input": "hi", "text": {"format": {"type": "json_schema", "name": "a", "schema": LOOSE}}}
    error = gateway.client.post("/v1/responses", json=body).json()["error"]
    assert error["param"].startswith("text.format")
    assert error["message"].startswith(error["param"])
    message = {"model": "tiny", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
    tools = [{"name": "f", "input_schema": {"type": "object"}}]
    refused = gateway.client.post("/v1/messages", json=message | {"tools": tools})
    assert (refused.status_code, refused.json()["error"]["type"]) == (400, "invalid_request_error")
    assert "tool_call_parser" in refused.json()["error"]["message"]
    assert engine.bodies == []
