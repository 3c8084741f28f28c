"""Requests of a dialect are chats on the hot path, and their answers and refusals have the dialect's form."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import httpx2
import orjson
import pytest
import sqlalchemy as sa

from registry.database import Registry
from registry.keys import KeyDraft, Scope
from tests.gateway.replica_rows import replica_row
from tests.gateway.scripted_gateways import SETTINGS, ScriptedGateways
from tests.stub_engine import (
    Script,
    StubEngine,
    StubHandler,
    answer,
    drop,
    stream,
    stream_then_drop,
    stream_then_wait,
)
from tests.waiting import wait_for

USAGE: Final = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
ASKED: Final = {"model": "tiny", "input": "hi"}
PATH: Final = "/v1/responses"
CHAT: Final = "/v1/chat/completions"


def whole(text: str = "yes", **choice: Any) -> bytes:
    said = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"} | choice
    return orjson.dumps({"id": "chatcmpl-1", "model": "tiny", "choices": [said], "usage": USAGE})


def chunk(finish: str | None = None, **delta: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: %b\n\n" % orjson.dumps({"id": "chatcmpl-1", "model": "tiny", "choices": [choice]})


LAST: Final = b"data: %b\n\ndata: [DONE]\n\n" % orjson.dumps({"choices": [], "usage": USAGE})
STREAM: Final = stream(
    chunk(role="assistant", content=""), chunk(content="ye"), chunk(content="s"), chunk("stop"), LAST
)

Serve = Callable[..., httpx2.Client]


@pytest.fixture
def serve(scripted: ScriptedGateways) -> Serve:
    """Starts a gateway; the first one before a stub engine for each list of scripts."""
    return lambda *scripts, **settings: scripted.serve(*scripts, paths=(CHAT,), **settings).client


def events_of(told: httpx2.Response) -> list[dict[str, Any]]:
    return [orjson.loads(line[6:]) for line in told.text.split("\n") if line.startswith("data: ")]


def test_a_response_is_a_chat_for_the_engine_and_a_response_for_its_client(
    serve: Serve, engines: list[StubEngine]
) -> None:
    client = serve([answer(200, whole())])
    told = client.post(PATH, json=ASKED | {"instructions": "be brief", "max_output_tokens": 9})
    assert (told.status_code, told.json()["object"], told.headers["x-lorry-replica"]) == (200, "response", "r0")
    assert told.json()["output"][0]["content"][0]["text"] == "yes"
    assert engines[0].paths == [CHAT]
    assert orjson.loads(engines[0].bodies[0]) == {
        "model": "tiny",
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}],
        "max_tokens": 9,
    }
    figures = client.get("/metrics").text
    assert f'gateway_requests_total{{path="{PATH}"' in figures or f'path="{PATH}"' in figures
    assert f'path="{CHAT}"' not in figures


def test_a_streams_events_are_sent_as_they_come(serve: Serve, engines: list[StubEngine]) -> None:
    client = serve([stream_then_wait(chunk(content="ye"))])
    with client.stream("POST", PATH, json=ASKED | {"stream": True}) as told:
        lines = told.iter_lines()
        seen = [json.loads(line[6:])["type"] for line in (next(lines) for _ in range(15)) if line[:6] == "data: "]
    assert seen[-1] == "response.output_text.delta"
    assert orjson.loads(engines[0].bodies[0])["stream_options"] == {"include_usage": True}
    # The client has left, so the engine is cut off: `stream_then_wait` ends only then.
    wait_for(lambda: engines[0].running == 0)


def test_a_conversation_goes_on_at_any_gateway(serve: Serve, engines: list[StubEngine]) -> None:
    first, second = serve([answer(200, whole()), STREAM, answer(200, whole("more"))]), serve()
    one = first.post(PATH, json=ASKED).json()
    events = events_of(second.post(PATH, json=ASKED | {"previous_response_id": one["id"], "stream": True}))
    assert (events[-1]["type"], events[-1]["response"]["store"]) == ("response.completed", True)
    two = events[-1]["response"]
    three = first.post(PATH, json=ASKED | {"previous_response_id": two["id"], "instructions": "now"}).json()
    assert [each["content"] for each in orjson.loads(engines[0].bodies[2])["messages"]] == [
        *("now", "hi", "yes", "hi", "yes", "hi"),
    ]
    assert second.get(f"{PATH}/{two['id']}").json() == two
    assert second.get(f"{PATH}/{three['id']}").json()["previous_response_id"] == two["id"]


def test_a_response_is_rated_by_its_own_id(serve: Serve) -> None:
    client = serve([answer(200, whole()), STREAM])
    for streamed in (False, True):
        told = client.post(PATH, json=ASKED | {"stream": streamed})
        name = events_of(told)[0]["response"]["id"] if streamed else told.json()["id"]
        rated = client.post("/v1/feedback", json={"completion_id": name, "score": 1.0})
        assert rated.status_code == 200, rated.text


def test_a_reference_leads_to_an_item_of_a_stored_response(serve: Serve, engines: list[StubEngine]) -> None:
    client = serve([answer(200, whole())])
    item = client.post(PATH, json=ASKED).json()["output"][0]["id"]
    given = [{"type": "item_reference", "id": item}, {"role": "user", "content": "why?"}]
    assert client.post(PATH, json=ASKED | {"input": given}).status_code == 200
    assert orjson.loads(engines[0].bodies[1])["messages"][0] == {"role": "assistant", "content": "yes"}
    unknown = [{"type": "item_reference", "id": f"msg_{'0' * 48}_0"}]
    told = client.post(PATH, json=ASKED | {"input": unknown}).json()["error"]
    assert (told["code"], told["param"]) == ("invalid_request", "input[0].id")


def test_a_stored_response_is_read_listed_and_deleted_by_its_tenant_alone(
    serve: Serve, sqlite_registry: Registry
) -> None:
    sqlite_registry.keys.create(KeyDraft(name="root", scopes=frozenset(Scope)), actor="me")
    keys = [
        sqlite_registry.keys.create(KeyDraft(name=name, scopes=frozenset({Scope.INFERENCE})), actor="me").secret
        for name in ("mine", "theirs")
    ]
    mine, theirs = ({"authorization": f"Bearer {key}"} for key in keys)
    client = serve([answer(200, whole())])
    given = [{"role": "user", "content": text} for text in ("a", "b", "c")]
    made = client.post(PATH, json=ASKED | {"input": given}, headers=mine).json()
    path = f"{PATH}/{made['id']}"
    assert client.get(path, headers=mine).json() == made
    page = client.get(f"{path}/input_items?limit=2", headers=mine).json()
    assert [item["content"][0]["text"] for item in page["data"]] == ["c", "b"]
    assert page["has_more"] is True
    rest = client.get(f"{path}/input_items?limit=2&after={page['last_id']}", headers=mine).json()
    assert ([item["content"][0]["text"] for item in rest["data"]], rest["has_more"]) == (["a"], False)
    assert client.get(f"{path}?include[]=message.input_image.image_url", headers=mine).json() == made
    assert client.get(f"{path}?stream=true", headers=mine).json()["error"]["param"] == "stream"
    assert "synchronous" in client.post(f"{path}/cancel", headers=mine).json()["error"]["message"]
    for ask in (client.get, client.delete):
        assert ask(path, headers=theirs).json()["error"]["code"] == "not_found"
    further = ASKED | {"previous_response_id": made["id"]}
    told = client.post(PATH, json=further, headers=theirs)
    assert (told.status_code, told.json()["error"]["code"]) == (400, "previous_response_not_found")
    assert told.json()["error"]["message"] == f"Previous response with id '{made['id']}' not found."
    assert client.delete(path, headers=mine).json() == {"id": made["id"], "object": "response", "deleted": True}
    assert client.get(path, headers=mine).status_code == 404
    assert client.post(PATH, json=further, headers=mine).json()["error"]["code"] == "previous_response_not_found"


@pytest.mark.parametrize("is_streamed", [False, True])
def test_without_the_store_a_response_says_so_and_one_that_must_be_stored_fails(
    serve: Serve, sqlite_registry: Registry, is_streamed: bool
) -> None:
    client = serve([STREAM if is_streamed else answer(200, whole())])
    with sqlite_registry.transactions.write() as tx:
        tx.execute(sa.text("DROP TABLE responses"))

    def ask(**fields: Any) -> Any:
        told = client.post(PATH, json=ASKED | {"stream": is_streamed} | fields)
        return (events_of(told)[-1]["response"] if is_streamed else told.json()), told.status_code

    for fields in ({}, {"store": False}):
        response, _ = ask(**fields)
        assert (response["status"], response["store"]) == ("completed", False)
    response, status = ask(store=True)
    if is_streamed:
        assert (response["status"], response["store"]) == ("failed", False)
        assert response["output"][0]["content"][0]["text"] == "yes"
    else:
        assert (status, response["error"]["code"]) == (503, "registry_unavailable")
    assert client.post(CHAT, json={"model": "tiny", "messages": []}).status_code == 200


def test_a_replica_that_is_lost_before_the_first_byte_is_passed_over(serve: Serve) -> None:
    client = serve([drop], [STREAM])
    for _ in range(4):
        assert events_of(client.post(PATH, json=ASKED | {"stream": True}))[-1]["type"] == "response.completed"


def test_a_replica_that_is_lost_later_ends_the_stream_with_an_error(serve: Serve) -> None:
    client = serve([stream_then_drop(chunk(content="ye"))])
    *_, error, last = events_of(client.post(PATH, json=ASKED | {"stream": True}))
    assert (error["type"], error["code"]) == ("error", "engine_unavailable")
    assert (last["type"], last["response"]["status"]) == ("response.failed", "failed")


def test_an_error_of_the_engine_within_a_stream_ends_it(serve: Serve) -> None:
    fault = b'data: {"error": {"message": "out of memory", "code": 500}}\n\n'
    client = serve([stream(chunk(content="ye"), fault, b"data: [DONE]\n\n")])
    *_, error, last = events_of(client.post(PATH, json=ASKED | {"stream": True}))
    assert (error["type"], error["message"], last["type"]) == ("error", "out of memory", "response.failed")


def test_an_engines_refusal_names_the_fields_of_the_response(serve: Serve) -> None:
    error = {"message": "max_tokens is too large", "type": "invalid_request_error", "param": "max_tokens", "code": None}
    client = serve([answer(400, orjson.dumps({"error": error})), answer(400, b"no"), answer(400, orjson.dumps(error))])
    for message in ("max_output_tokens is too large", "no", "max_output_tokens is too large"):
        told = client.post(PATH, json=ASKED | {"max_output_tokens": 9})
        assert (told.status_code, told.json()["error"]["message"]) == (400, message)


@pytest.mark.parametrize(
    "script",
    [
        answer(200, b'{"choices": []}'),
        answer(200, b"odd"),
        answer(200, whole(finish_reason=None)),
        stream(b"data: odd\n\n"),
        stream(b"data: [DONE]\n\n"),
    ],
)
def test_what_is_not_a_chats_answer_is_no_response(serve: Serve, script: Script) -> None:
    told = serve([script]).post(PATH, json=ASKED)
    assert (told.status_code, told.json()["error"]["code"]) == (503, "engine_unavailable")


def test_a_stream_that_stops_in_the_middle_has_failed(serve: Serve) -> None:
    client = serve([stream(chunk(content="ye"))])
    assert events_of(client.post(PATH, json=ASKED | {"stream": True}))[-1]["type"] == "response.failed"


@pytest.mark.parametrize("odd", [b"{", b"[]", b'{"model": "tiny"}', b'{"model": "tiny", "input": 1e999}'])
def test_a_body_that_is_no_request_is_refused(serve: Serve, odd: bytes) -> None:
    told = serve([answer(200, whole())]).post(PATH, content=odd, headers={"content-type": "application/json"})
    assert (told.status_code, told.json()["error"]["code"]) == (400, "invalid_request")


def test_refusals_before_the_translation_are_those_of_every_path(serve: Serve, sqlite_registry: Registry) -> None:
    client = serve([answer(200, whole())], settings=SETTINGS.model_copy(update={"max_body_bytes": 100}))
    assert client.post(PATH, json=ASKED | {"input": "x" * 200}).json()["error"]["code"] == "body_too_large"
    assert client.post(PATH, json=ASKED | {"model": "ghost"}).json()["error"]["code"] == "model_not_found"
    sqlite_registry.replicas.report(replica_row("r0", url="http://127.0.0.1:9", paths=("/v1/embeddings",)))

    def error() -> Any:
        return client.post(PATH, json=ASKED).json().get("error") or {}

    wait_for(lambda: error().get("code") == "endpoint_not_offered")
    assert error()["message"].startswith("/v1/responses is not there for 'tiny'")


def test_a_large_answer_goes_out_whole(serve: Serve) -> None:
    text = "word " * 400_000
    told = serve([answer(200, whole(text))]).post(PATH, json=ASKED | {"store": False})
    assert told.json()["output"][0]["content"][0]["text"] == text


def test_events_are_read_however_the_engine_cuts_them(serve: Serve) -> None:
    sent = chunk(content="hé") + chunk("stop") + LAST

    def bytewise(handler: StubHandler) -> None:
        stream(*(sent[at : at + 1] for at in range(len(sent))))(handler)

    events = events_of(serve([bytewise]).post(PATH, json=ASKED | {"stream": True}))
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == "hé"
    assert events[-1]["response"]["usage"]["total_tokens"] == 7
