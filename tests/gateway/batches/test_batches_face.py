"""Batches at a gateway before a scripted engine: what a client of OpenAI's SDK sees of them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import openai
import pytest
from openai.types import Batch

from gateway.settings import GatewaySettings
from registry.database import Registry
from registry.keys import KeyDraft, KeyLimits, Scope
from registry.liveness.sleeping_pools import SleepingPool
from registry.types import Base
from tests.clock import Clock
from tests.gateway.replica_rows import replica_row
from tests.gateway.sdk import sdk
from tests.gateway.served import ServedGateway
from tests.stub_engine import Script, StubEngine, StubHandler, answer
from tests.waiting import wait_for

CHAT: Final = "/v1/chat/completions"
OK = answer(200, b'{"id": "c", "object": "chat.completion", "choices": [], "usage": {"prompt_tokens": 2}}')
SETTINGS = GatewaySettings(route_refresh_s=0.05, replica_wait_s=20.0)
Start = Callable[..., ServedGateway]


@pytest.fixture
def engine() -> Iterator[StubEngine]:
    stub = StubEngine(OK)
    yield stub
    stub.close()


@pytest.fixture
def start(sqlite_registry: Registry, base: Base, engine: StubEngine) -> Iterator[Start]:
    """Starts gateways before the engine."""
    sqlite_registry.bases.enter(base)
    started: list[ServedGateway] = []
    row = replica_row("r0", url=engine.url, room=8)
    sqlite_registry.replicas.report(row)

    def begin(settings: GatewaySettings = SETTINGS) -> ServedGateway:
        started.append(ServedGateway(settings, sqlite_registry))
        return started[-1]

    yield begin
    for gateway in started:
        gateway.close()


def client_of(gateway: ServedGateway, key: str = "none") -> openai.OpenAI:
    return gateway.clients.enter_context(sdk(gateway.url, key))


def request(custom_id: str, **body: Any) -> bytes:
    fields = {"model": "tiny", "messages": [{"role": "user", "content": custom_id}]} | body
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": CHAT, "body": fields}).encode() + b"\n"


def submit(client: openai.OpenAI, *lines: bytes) -> Batch:
    file = client.files.create(file=("in.jsonl", b"".join(lines)), purpose="batch")
    return client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h", metadata={"a": "b"})


def ended(client: openai.OpenAI, batch: Batch) -> Batch:
    ends = ("completed", "failed", "expired", "cancelled")
    wait_for(lambda: client.batches.retrieve(batch.id).status in ends)
    return client.batches.retrieve(batch.id)


def completed(client: openai.OpenAI, batch: Batch) -> int:
    counts = client.batches.retrieve(batch.id).request_counts
    assert counts is not None
    return counts.completed


def lines_of(client: openai.OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    assert file_id is not None
    return [json.loads(line) for line in client.files.content(file_id).text.splitlines()]


def refuse(status: int, retry_after: str | None = None) -> Script:
    def script(handler: StubHandler) -> None:
        body = b'{"error": {"message": "no", "type": "x", "param": null, "code": "why"}}'
        handler.send_response(status)
        handler.send_header("content-type", "application/json")
        handler.send_header("content-length", str(len(body)))
        if retry_after is not None:
            handler.send_header("retry-after", retry_after)
        handler.end_headers()
        handler.wfile.write(body)

    return script


@pytest.mark.long
def test_a_batch_wakes_the_pool_that_it_needs(start: Start, engine: StubEngine, sqlite_registry: Registry) -> None:
    sqlite_registry.sleeping_pools.enter(SleepingPool(name="night", base="tiny", engine="transformers"))
    sqlite_registry.replicas.mark_gone("r0")
    client = client_of(start())
    batch = submit(client, request("a"), request("b"))
    wait_for(lambda: [use for use in sqlite_registry.snapshot().uses if use.awaited_since is not None])
    sqlite_registry.replicas.report(replica_row("n0", url=engine.url, room=8, pool="night"))
    assert ended(client, batch).status == "completed"
    assert len(engine.bodies) == 2


def test_a_batch_ends_with_each_answer_by_its_custom_id(start: Start, engine: StubEngine) -> None:
    client = client_of(start())
    engine.scripts = [refuse(400), OK]
    batch = submit(client, request("a"), request("b"), request("c"))
    assert (batch.status, batch.object, batch.completion_window) == ("validating", "batch", "24h")
    done = ended(client, batch)
    assert (done.status, done.model, done.metadata) == ("completed", "tiny", {"a": "b"})
    counts = done.request_counts
    assert counts is not None
    assert (counts.total, counts.completed, counts.failed) == (3, 2, 1)
    assert done.usage is not None
    assert (done.usage.input_tokens, done.usage.total_tokens) == (4, 4)
    moments = [done.created_at, done.in_progress_at, done.finalizing_at, done.completed_at]
    assert moments == sorted(moments, key=lambda at: at or 0)
    right, wrong = lines_of(client, done.output_file_id), lines_of(client, done.error_file_id)
    assert sorted(each["custom_id"] for each in right + wrong) == ["a", "b", "c"]
    assert [each["response"]["status_code"] for each in wrong] == [400]
    assert wrong[0]["response"]["body"]["error"]["code"] == "why"
    assert right[0]["response"]["body"]["object"] == "chat.completion"
    assert [each.id for each in client.batches.list(limit=1)] == [batch.id]
    assert client.files.retrieve(str(done.output_file_id)).purpose == "batch_output"
    kinds = {head.get("content-type") for head in engine.heads}
    assert kinds == {"application/json"}


@pytest.mark.long
def test_a_wrong_file_fails_the_batch_with_line_and_field(start: Start, engine: StubEngine) -> None:
    client = client_of(start())
    done = ended(client, submit(client, request("a"), b"{\n", request("a")))
    assert done.status == "failed"
    assert done.errors is not None
    assert done.errors.data is not None
    assert [(fault.line, fault.code, fault.param) for fault in done.errors.data] == [
        (2, "invalid_json_line", None),
        (3, "duplicate_custom_id", "custom_id"),
    ]
    assert engine.bodies == []
    unknown = ended(client, submit(client, request("a", model="huge")))
    assert unknown.errors is not None
    assert unknown.errors.data is not None
    assert [(fault.code, fault.param) for fault in unknown.errors.data] == [("model_not_found", "body.model")]


@pytest.mark.long
def test_a_refusal_with_a_time_is_waited_out(start: Start, engine: StubEngine) -> None:
    engine.scripts = [refuse(503, "1"), refuse(429, "1"), OK]
    client = client_of(start())
    done = ended(client, submit(client, request("a")))
    assert done.status == "completed"
    assert len(lines_of(client, done.output_file_id)) == 1


@pytest.mark.long
def test_a_cancelled_batch_keeps_what_it_has(start: Start, engine: StubEngine) -> None:
    held = threading.Event()

    def hang(handler: StubHandler) -> None:
        held.wait(30)
        with suppress(OSError):  # the gateway may have left
            OK(handler)

    engine.scripts = [OK, hang]
    client = client_of(start())
    batch = submit(client, *(request(str(number)) for number in range(40)))
    wait_for(lambda: completed(client, batch) == 1)
    assert client.batches.cancel(batch.id).status == "cancelling"
    done = ended(client, batch)
    held.set()
    assert done.status == "cancelled"
    assert len(lines_of(client, done.output_file_id)) == 1
    late = lines_of(client, done.error_file_id)
    assert {each["error"]["code"] for each in late} == {"batch_cancelled"}
    assert len(late) == 39
    with pytest.raises(openai.ConflictError):
        client.batches.cancel(batch.id)


@pytest.mark.long
def test_an_expired_batch_keeps_what_it_has(start: Start, engine: StubEngine, clock: Clock) -> None:
    held = threading.Event()

    def hang(handler: StubHandler) -> None:
        held.wait(30)
        with suppress(OSError):  # the gateway may have left
            OK(handler)

    engine.scripts = [OK, hang]
    client = client_of(start())
    batch = submit(client, request("a"), request("b"))
    wait_for(lambda: completed(client, batch) == 1)
    clock.jump(86401)
    done = ended(client, batch)
    held.set()
    assert (done.status, done.expired_at is not None) == ("expired", True)
    assert [each["error"]["code"] for each in lines_of(client, done.error_file_id)] == ["batch_expired"]


@pytest.mark.long
def test_a_batch_has_the_rights_of_its_key_as_long_as_that_is_valid(
    start: Start, engine: StubEngine, sqlite_registry: Registry
) -> None:
    sqlite_registry.keys.create(KeyDraft(name="root", scopes=frozenset(Scope)), "me")
    drafts = {
        "app": KeyDraft(name="app", scopes=frozenset({Scope.INFERENCE})),
        "other": KeyDraft(name="other", scopes=frozenset({Scope.INFERENCE}), models=frozenset({"support"})),
    }
    made = {name: sqlite_registry.keys.create(draft, "me") for name, draft in drafts.items()}
    held = threading.Event()

    def hang(handler: StubHandler) -> None:
        held.wait(30)
        with suppress(OSError):  # the gateway may have left
            OK(handler)

    gateway = start()
    app, other = client_of(gateway, made["app"].secret), client_of(gateway, made["other"].secret)
    refused = ended(other, submit(other, request("a")))
    assert refused.errors is not None
    assert refused.errors.data is not None
    assert refused.errors.data[0].code == "model_not_allowed"
    done = ended(app, submit(app, request("a")))
    assert done.status == "completed"
    with pytest.raises(openai.NotFoundError):
        other.batches.retrieve(done.id)
    assert [batch.id for batch in other.batches.list()] == [refused.id]
    engine.scripts = [hang]
    batch = submit(app, request("b"))
    wait_for(lambda: len(engine.bodies) == 2)
    sqlite_registry.keys.revoke("app", "me")
    ended_batch = wait_for(lambda: _if_failed(sqlite_registry, batch.id))
    held.set()
    assert [fault.code for fault in ended_batch.errors] == ["key_revoked"]


def _if_failed(registry: Registry, batch_id: str) -> Any:
    found = registry.batches.get(batch_id)
    return found if found.state == "failed" else None


@pytest.mark.long
def test_a_batch_leaves_a_part_of_its_keys_limits(start: Start, engine: StubEngine, sqlite_registry: Registry) -> None:
    sqlite_registry.keys.create(KeyDraft(name="root", scopes=frozenset(Scope)), "me")
    limits = KeyLimits(requests_per_minute=10, concurrent_requests=2)
    draft = KeyDraft(name="app", scopes=frozenset({Scope.INFERENCE}), limits=limits)
    secret = sqlite_registry.keys.create(draft, "me").secret
    client = client_of(start(), secret)
    batch = submit(client, *(request(str(number)) for number in range(30)))
    wait_for(lambda: sqlite_registry.batches.get(batch.id).note)
    wait_for(lambda: completed(client, batch) == 9)  # the last of them may have been under way
    assert "limit of its key" in sqlite_registry.batches.get(batch.id).note
    client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "hi"}])


@pytest.mark.long
def test_another_gateway_goes_on_where_one_stopped(start: Start, engine: StubEngine) -> None:
    first = start()
    client = client_of(first)
    slow = threading.Event()

    def wait(handler: StubHandler) -> None:
        slow.wait(30)
        with suppress(OSError):  # the gateway may have left
            OK(handler)

    engine.scripts = [OK, OK, wait]
    batch = submit(client, *(request(str(number)) for number in range(5)))
    wait_for(lambda: completed(client, batch) == 2)
    client.close()
    first.close()
    slow.set()
    engine.scripts = [OK]
    asked = len(engine.bodies)
    done = ended(client_of(start()), batch)
    assert done.status == "completed"
    assert len(engine.bodies) - asked == 3


def test_a_wrong_request_for_a_batch_names_its_field(start: Start, tmp_path: Path) -> None:
    client = client_of(start(GatewaySettings(route_refresh_s=0.05, max_open_batches=1)))
    file = client.files.create(file=("x.jsonl", b"{}"), purpose="user_data")
    for fields, param in (
        ({"input_file_id": file.id}, "input_file_id"),
        ({"input_file_id": "file-none"}, "input_file_id"),
        ({"endpoint": "/v1/audio/transcriptions"}, "endpoint"),
        ({"completion_window": "1h"}, "completion_window"),
        ({"metadata": {"k": "v" * 513}}, "metadata.k"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 5}}, "output_expires_after.seconds"),
        ({"window": 1}, "window"),
    ):
        good = {"input_file_id": file.id, "endpoint": CHAT, "completion_window": "24h"}
        with pytest.raises(openai.BadRequestError) as refused:
            client.post("/batches", cast_to=object, body=good | fields)
        assert refused.value.param == param, refused.value.message
