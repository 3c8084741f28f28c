"""An engine sees only complete, plain requests, however a client segments, orders or malforms them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.settings import GatewaySettings
from registry.database import Registry, open_registry
from registry.settings import RegistrySettings
from registry.types import Base
from tests.gateway.edge.raw_client import Answers, Told, send
from tests.gateway.edge.wire import pieces
from tests.gateway.replica_rows import replica_row
from tests.gateway.served import ServedGateway
from tests.stub_engine import StubEngine, StubHandler
from tests.waiting import wait_for

KNOBS = GatewaySettings(
    replica_wait_s=20.0, route_refresh_s=0.05, max_body_bytes=4096, receive_timeout_s=0.6, keep_alive_s=1
)
FEW = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


def echo(handler: StubHandler) -> None:
    """Says what it was asked; in a stream where one is asked for."""
    body = json.loads(handler.body)
    said = json.dumps({"asked": body["n"]}).encode()
    handler.send_response(200)
    if body.get("stream"):
        handler.send_header("content-type", "text/event-stream")
        handler.send_header("transfer-encoding", "chunked")
        handler.end_headers()
        event = b"data: " + said + b"\n\n"
        handler.wfile.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(event), event))
        return
    handler.send_header("content-type", "application/json")
    handler.send_header("content-length", str(len(said)))
    handler.end_headers()
    handler.wfile.write(said)


@pytest.fixture(scope="module")
def engine() -> Iterator[StubEngine]:
    stub = StubEngine(echo)
    yield stub
    stub.close()


@pytest.fixture(scope="module")
def registry(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    folder = tmp_path_factory.mktemp("edge")
    (folder / "registry.db").write_bytes(sqlite_template.read_bytes())
    opened = open_registry(RegistrySettings(url=f"sqlite:///{folder / 'registry.db'}", artifacts=folder / "artifacts"))
    opened.bases.enter(Base(name="tiny", path="/tiny", digest="d", licence="x", created_at=1.0))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def gateway(engine: StubEngine, registry: Registry) -> Iterator[ServedGateway]:
    registry.replicas.report(replica_row("r0", url=engine.url))
    with ServedGateway(KNOBS, registry) as served:
        yield served


def chat(number: int, *, head: str = "", path: str = "/v1/chat/completions", **fields: object) -> bytes:
    body = json.dumps({"model": "tiny", "n": number, **fields}).encode()
    return f"POST {path} HTTP/1.1\r\nhost: localhost\r\n{head}content-length: {len(body)}\r\n\r\n".encode() + body


def in_chunks(number: int, size: int) -> bytes:
    body = json.dumps({"model": "tiny", "n": number}).encode()
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    framed = b"".join(b"%x;ext=1\r\n%b\r\n" % (len(part), part) for part in parts)
    head = b"POST /v1/completions?x=1 HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + framed + b"0\r\ntrailer: x\r\n\r\n"


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode()


# each kind: the request, and what tells its answer from every other
Kind = Callable[[int], tuple[bytes, Callable[[Told], bool]]]
KINDS: dict[str, Kind] = {
    "whole": lambda n: (chat(n), lambda told: json.loads(told.body)["asked"] == n),
    "stream": lambda n: (chat(n, stream=True), lambda told: told.body == b'data: {"asked": %d}\n\n' % n),
    "chunks": lambda n: (in_chunks(n, 1 + n % 7), lambda told: json.loads(told.body)["asked"] == n),
    "unknown": lambda n: (chat(n, model=f"no-{n}"), lambda told: told.status == 404 and b"'no-%d'" % n in told.body),
    "broken": lambda n: (
        chat(n, head=f"x-request-id: b{n}\r\n")[:-1] + b"!",
        lambda told: told.status == 400 and told.headers[b"x-request-id"] == b"b%d" % n,
    ),
    "health": lambda n: (get(f"/healthz?{n}"), lambda told: json.loads(told.body) == {"status": "ok"}),
    "method": lambda n: (
        get("/v1/completions"),
        lambda told: (told.status, told.headers[b"allow"]) == (405, b"OPTIONS, POST"),
    ),
    "nowhere": lambda n: (chat(n, path=f"/no/{n}"), lambda told: told.status == 404 and b"unknown_url" in told.body),
}


@FEW
@given(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=8), st.lists(st.integers(0, 4000), max_size=12))
def test_pipelined_requests_are_answered_in_order_however_they_are_cut(
    gateway: ServedGateway, kinds: list[str], cuts: list[int]
) -> None:
    asked = [KINDS[kind](number) for number, kind in enumerate(kinds)]
    with gateway.connect() as connection:
        send(connection, pieces(b"".join(request for request, _ in asked), cuts))
        answers = Answers(connection).wait(len(asked))
    for (_, is_right), told in zip(asked, answers, strict=True):
        assert is_right(told), told


def test_a_thousand_requests_in_one_go_are_answered_in_order(gateway: ServedGateway) -> None:
    bad = b"POST /v1/completions HTTP/1.1\r\nx-request-id: %d\r\ncontent-length: 1\r\n\r\n{"
    with gateway.connect() as connection:
        send(connection, [b"".join(bad % number for number in range(1000))])
        told = Answers(connection).wait(1000)
    assert [answer.headers[b"x-request-id"] for answer in told] == [b"%d" % number for number in range(1000)]
    assert {answer.status for answer in told} == {400}


BODY = b'{"model":"tiny","n":1}'
LINE = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
MALFORMED = [
    LINE + b"content-length: 22\r\ntransfer-encoding: chunked\r\n\r\n" + BODY,
    LINE + b"transfer-encoding: chunked\r\ncontent-length: 22\r\n\r\n16\r\n" + BODY + b"\r\n0\r\n\r\n",
    LINE + b"content-length: 22\r\ncontent-length: 21\r\n\r\n" + BODY,
    LINE + b"content-length: +22\r\n\r\n" + BODY,
    LINE + b"content-length: -22\r\n\r\n" + BODY,
    LINE + b"content-length: 0x16\r\n\r\n" + BODY,
    LINE + b"content-length: 22 22\r\n\r\n" + BODY,
    LINE + b"content-length : 22\r\n\r\n" + BODY,
    LINE + b"transfer-encoding: xchunked\r\n\r\n16\r\n" + BODY + b"\r\n0\r\n\r\n",
    LINE + b"transfer-encoding: chunked, identity\r\n\r\n16\r\n" + BODY + b"\r\n0\r\n\r\n",
    LINE + b"transfer-encoding: gzip, chunked\r\n\r\n16\r\n" + BODY + b"\r\n0\r\n\r\n",
    LINE + b"transfer-encoding: chunked\r\n\r\n-16\r\n" + BODY + b"\r\n0\r\n\r\n",
    LINE + b"transfer-encoding: chunked\r\n\r\n0x16\r\n" + BODY + b"\r\n0\r\n\r\n",
    LINE + b"transfer-encoding: chunked\r\n\r\n16\r\n" + BODY + b"XX0\r\n\r\n",
    LINE + b"x: a\r\n folded\r\ncontent-length: 22\r\n\r\n" + BODY,
    LINE + b"x: a\x00b\r\ncontent-length: 22\r\n\r\n" + BODY,
    LINE + b"x\r\ncontent-length: 22\r\n\r\n" + BODY,
    LINE.replace(b"1.1", b"1.7") + b"content-length: 22\r\n\r\n" + BODY,
    LINE.replace(b"POST /", b"POST  http/") + b"content-length: 22\r\n\r\n" + BODY,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
]


@pytest.mark.parametrize("raw", MALFORMED)
@pytest.mark.parametrize("before", [b"", chat(7)])
def test_malformed_framing_never_reaches_an_engine(
    gateway: ServedGateway, engine: StubEngine, raw: bytes, before: bytes
) -> None:
    seen = len(engine.bodies)
    with gateway.connect() as connection:
        send(connection, [before + raw + chat(8)])
        told = Answers(connection).wait_for_the_end()
    assert [answer.status for answer in told] == [200] * bool(before) + [400]
    assert told[-1].headers[b"connection"] == b"close"
    assert json.loads(told[-1].body)["error"]["code"] in ("malformed_request", "invalid_request")
    assert len(engine.bodies) - seen == bool(before)


@pytest.mark.long
@settings(FEW, max_examples=12)
@given(st.data())
def test_whatever_comes_the_gateway_lives_and_an_engine_gets_json(
    gateway: ServedGateway, engine: StubEngine, data: st.DataObject
) -> None:
    raw = bytearray(chat(1) + in_chunks(2, 5) + get("/healthz"))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        change = data.draw(st.sampled_from(["set", "cut", "insert"]))
        if change == "set":
            raw[at] = data.draw(st.integers(0, 255))
        elif change == "cut":
            del raw[at : at + data.draw(st.integers(1, 20))]
        else:
            raw[at:at] = data.draw(st.binary(max_size=8) | st.sampled_from([b"\r\n", b"\r\n\r\n", b"0\r\n\r\n", b":"]))
    seen = len(engine.bodies)
    with gateway.connect() as connection:
        send(connection, [bytes(raw)])
        for told in Answers(connection).wait_for_the_end():
            assert told.is_whole
            assert told.status < 500
    for body in engine.bodies[seen:]:
        assert json.loads(body)["model"] == "tiny"
    assert gateway.client.get("/healthz").status_code == 200


def test_a_client_that_asks_first_is_told_to_go_on(gateway: ServedGateway) -> None:
    request = chat(3, head="expect: 100-continue\r\n")
    head, _, body = request.partition(b"\r\n\r\n")
    with gateway.connect() as connection:
        answers = Answers(connection)
        send(connection, [head + b"\r\n\r\n"])
        while not answers.interim:
            answers.step()
        send(connection, [body])
        assert json.loads(answers.wait(1)[0].body) == {"asked": 3}


@pytest.mark.parametrize("expect", ["", "expect: 100-continue\r\n"])
def test_a_body_that_is_too_large_is_refused_before_it_is_sent(gateway: ServedGateway, expect: str) -> None:
    with gateway.connect() as connection:
        send(connection, [LINE + expect.encode() + b"content-length: 5000\r\n\r\n"])
        answers = Answers(connection)
        (told,) = answers.wait_for_the_end()
    assert (told.status, json.loads(told.body)["error"]["code"]) == (413, "body_too_large")
    assert told.headers[b"connection"] == b"close"
    assert answers.interim == []


def test_a_body_in_chunks_that_grows_too_large_is_refused(gateway: ServedGateway, engine: StubEngine) -> None:
    seen = len(engine.bodies)
    with gateway.connect() as connection:
        send(connection, [LINE + b"transfer-encoding: chunked\r\n\r\n", *[b"3e8\r\n" + b"x" * 1000 + b"\r\n"] * 6])
        (told,) = Answers(connection).wait_for_the_end()
    assert told.status == 413
    assert len(engine.bodies) == seen


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models"])
@pytest.mark.parametrize("segment", [1 << 10, 1 << 18])
def test_a_head_that_does_not_end_is_refused(gateway: ServedGateway, path: str, segment: int) -> None:
    with gateway.connect() as connection:
        raw = f"POST {path} HTTP/1.1\r\nx: ".encode() + b"y" * 300_000
        send(connection, [raw[at : at + segment] for at in range(0, len(raw), segment)])
        (told,) = Answers(connection).wait_for_the_end()
    assert (told.status, json.loads(told.body)["error"]["code"]) == (431, "head_too_large")


def test_a_head_that_is_too_large_in_all_is_refused(gateway: ServedGateway, engine: StubEngine) -> None:
    seen = len(engine.bodies)
    with gateway.connect() as connection:
        send(connection, [chat(1, head="".join(f"x-{number}: {'y' * 1000}\r\n" for number in range(100)))])
        (told,) = Answers(connection).wait_for_the_end()
    assert told.status == 431
    assert len(engine.bodies) == seen


@pytest.mark.long
@pytest.mark.parametrize(
    "begun",
    [
        LINE,
        LINE + b"content-length: 20\r\n\r\n{",
        b"POST /v1/models HTTP/1.1\r\n",
        LINE + b"transfer-encoding: chunked\r\n\r\n5",
    ],
)
def test_a_client_that_sends_too_slowly_is_told_so(gateway: ServedGateway, begun: bytes) -> None:
    with gateway.connect() as connection:
        send(connection, [begun])
        (told,) = Answers(connection).wait_for_the_end()
    assert (told.status, json.loads(told.body)["error"]["code"]) == (408, "request_too_slow")


def test_a_client_of_http_1_0_gets_plain_bytes_and_the_end(gateway: ServedGateway) -> None:
    for stream in (False, True):
        with gateway.connect() as connection:
            send(connection, [chat(4, stream=stream).replace(b"HTTP/1.1", b"HTTP/1.0")])
            raw = b""
            while data := connection.recv(65536):
                raw += data
        head, _, body = raw.partition(b"\r\n\r\n")
        assert b"connection: close" in head
        assert b"chunked" not in head
        assert b'{"asked": 4}' in body


def test_after_a_client_asked_to_close_nothing_else_is_answered(gateway: ServedGateway, engine: StubEngine) -> None:
    seen = len(engine.bodies)
    with gateway.connect() as connection:
        send(connection, [chat(1, head="connection: close\r\n") + chat(2)])
        told = Answers(connection).wait_for_the_end()
    assert [json.loads(answer.body) for answer in told] == [{"asked": 1}]
    assert len(engine.bodies) == seen + 1


def test_methods_that_are_not_taken_say_which_is(gateway: ServedGateway) -> None:
    for method in ("GET", "HEAD", "PUT", "DELETE", "PATCH"):
        told = gateway.client.request(method, "/v1/chat/completions")
        assert (told.status_code, told.headers["allow"]) == (405, "OPTIONS, POST")


@pytest.mark.long
def test_an_idle_connection_is_closed_and_one_in_use_is_not(registry: Registry, engine: StubEngine) -> None:
    with (
        ServedGateway(KNOBS, registry) as served,
        served.connect() as connection,
    ):
        began = time.monotonic()
        answers = Answers(connection)
        send(connection, [chat(1)])
        answers.wait(1)
        answers.wait_for_the_end()
        assert time.monotonic() - began > 0.9
        assert len(answers.read) == 1


def test_a_large_body_between_two_heads_is_no_large_head(engine: StubEngine, registry: Registry) -> None:
    large = chat(1, stream=False, pad="x" * 200_000)
    knobs = KNOBS.model_copy(update={"max_body_bytes": 1 << 20})
    with ServedGateway(knobs, registry) as served, served.connect() as connection:
        send(connection, [large[:20], large[20:] + chat(2)[:20], chat(2)[20:]])
        told = Answers(connection).wait(2)
    assert [json.loads(answer.body) for answer in told] == [{"asked": 1}, {"asked": 2}]


def test_ids_are_the_callers_own_or_new(gateway: ServedGateway) -> None:
    with gateway.connect() as connection:
        send(
            connection,
            [chat(1, head="x-request-id: mine.1_-\r\n") + chat(2, head="x-request-id: no spaces\r\n") + chat(3)],
        )
        ids = [answer.headers[b"x-request-id"] for answer in Answers(connection).wait(3)]
    assert ids[0] == b"mine.1_-"
    assert ids[1].startswith(b"req-")
    assert len(set(ids)) == 3


def test_every_connection_is_forgotten_when_it_has_ended(gateway: ServedGateway) -> None:
    parts = gateway.gateway
    edge = parts.edge
    with gateway.connect() as connection:
        send(connection, [chat(1)])
        Answers(connection).wait(1)
        assert len(edge.clients) >= 1
    gateway.forget_connections()
    wait_for(lambda: not edge.clients and not edge.under_way)
    assert all(parts.balancer.in_flight(endpoint.replica) == 0 for endpoint in parts.feed.table.endpoints)
