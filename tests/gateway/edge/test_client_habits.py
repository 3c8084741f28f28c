"""The gateway answers more than the plainest HTTP/1.1: offers of other protocols, odd targets, half a close."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from gateway.edge.client_reading import PIECE
from gateway.edge.exchange import Exchange
from gateway.edge.target import kind_of, plain_target
from gateway.errors import MalformedRequest
from gateway.settings import GatewaySettings
from registry.database import Registry, open_registry
from registry.settings import RegistrySettings
from registry.types import Base
from tests.gateway.edge.raw_client import Answers, Told, send
from tests.gateway.edge.test_http_edge import chat, echo, get, in_chunks
from tests.gateway.replica_rows import replica_row
from tests.gateway.served import ServedGateway
from tests.stub_engine import StubEngine, StubHandler
from tests.waiting import wait_for

H2C = "connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAEAAEAAAAIAAAABAAMAAABk\r\n"
UPLOAD_BYTES = 128 << 20
OFFERS = [
    H2C,
    "connection: upgrade\r\nupgrade: websocket\r\n",
    "upgrade: h2c\r\n",
    "connection: upgrade\r\nupgrade:\r\n",
]


class Engine:
    """Says what it was asked; a request with `wait` is answered once `go_on` is set."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.left = threading.Event()
        self.stub = StubEngine(self.answer)

    def answer(self, handler: StubHandler) -> None:
        if json.loads(handler.body).get("wait"):
            handler.connection.settimeout(0.02)
            while not self.go_on.is_set():
                try:
                    if not handler.connection.recv(1):
                        self.left.set()
                        return
                except TimeoutError:
                    pass
            handler.connection.settimeout(None)
        echo(handler)


@pytest.fixture(scope="module")
def registry(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    folder = tmp_path_factory.mktemp("habits")
    (folder / "registry.db").write_bytes(sqlite_template.read_bytes())
    opened = open_registry(RegistrySettings(url=f"sqlite:///{folder / 'registry.db'}", artifacts=folder / "artifacts"))
    opened.bases.enter(Base(name="tiny", path="/tiny", digest="d", licence="x", created_at=1.0))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    made = Engine()
    yield made
    made.stub.close()


@pytest.fixture(scope="module")
def gateway(engine: Engine, registry: Registry) -> Iterator[ServedGateway]:
    registry.replicas.report(replica_row("r0", url=engine.stub.url))
    with ServedGateway(GatewaySettings(route_refresh_s=0.05, replica_wait_s=20.0), registry) as served:
        yield served


def told(gateway: ServedGateway, raw: bytes, count: int = 1) -> list[Told]:
    with gateway.connect() as connection:
        send(connection, [raw])
        return Answers(connection).wait(count)


def test_an_offer_of_another_protocol_is_ignored_and_the_body_read(gateway: ServedGateway) -> None:
    offered = [chat(number, head=offer) for number, offer in enumerate(OFFERS)]
    offered.append(in_chunks(4, 7).replace(b"Host: x\r\n", b"Host: x\r\n" + H2C.encode()))
    answers = told(gateway, b"".join(offered) + chat(5), 6)
    assert [json.loads(answer.body)["asked"] for answer in answers] == [0, 1, 2, 3, 4, 5]


def test_an_offer_in_segments_is_ignored_too(gateway: ServedGateway) -> None:
    raw = chat(1, head=H2C) + chat(2)
    with gateway.connect() as connection:
        send(connection, [raw[at : at + 9] for at in range(0, len(raw), 9)])
        assert [json.loads(answer.body)["asked"] for answer in Answers(connection).wait(2)] == [1, 2]


def test_the_application_gets_the_body_behind_an_offer(gateway: ServedGateway) -> None:
    body = b'{"completion_id": "none", "score": 2}'
    lines = f"host: localhost\r\n{H2C}content-type: application/json\r\ncontent-length: {len(body)}"
    head = f"POST /v1/feedback HTTP/1.1\r\n{lines}"
    (answer,) = told(gateway, head.encode() + b"\r\n\r\n" + body)
    assert (answer.status, json.loads(answer.body)["error"]["param"]) == (400, "score")


def test_an_offer_hides_no_malformed_framing(gateway: ServedGateway) -> None:
    raw = chat(1, head=H2C + "transfer-encoding: chunked\r\n") + chat(2)
    assert [answer.status for answer in told(gateway, raw, 2)] == [400]


@pytest.mark.parametrize("authority", [b"example.com:443", b"example.com:99999999", b"/x", b"/v1/chat/completions"])
def test_a_tunnel_is_refused_and_nothing_behind_it_read(gateway: ServedGateway, authority: bytes) -> None:
    (answer,) = told(gateway, b"CONNECT " + authority + b" HTTP/1.1\r\nhost: x\r\n\r\n" + chat(1), 2)
    assert (answer.status, json.loads(answer.body)["error"]["code"]) == (405, "method_not_allowed")
    assert answer.headers[b"connection"] == b"close"


@pytest.mark.parametrize("size", [70_000, 16_000])
def test_a_tunnel_with_a_large_head_is_refused(gateway: ServedGateway, size: int) -> None:
    (answer,) = told(gateway, b"CONNECT /" + b"a" * size + b" HTTP/1.1\r\nhost: x\r\n\r\n" + chat(1), 2)
    assert answer.status in (405, 431)  # the method, or the head's size, whichever is read first


@pytest.mark.parametrize(
    "path",
    [
        "http://localhost:8080/v1/chat/completions",
        "HTTPS://[::1]/v1/chat/completions?api-version=1",
        "/v1/chat%2Fcompletions",
        "/v1/ch%61t/completions",
        "//v1/chat//completions",
        "/v1/chat/completions/",
        "/v1/chat/completions#top",
    ],
)
def test_the_hot_path_is_known_however_it_is_written(gateway: ServedGateway, path: str) -> None:
    (answer,) = told(gateway, chat(3, path=path))
    assert json.loads(answer.body) == {"asked": 3}


@pytest.mark.parametrize(
    "path",
    [
        "http://x/healthz",
        "http://x:80/healthz?a=b",
        "//healthz",
        "/health%7A",
        "/healthz#a",
        "/healthz/",
        "/healthz//?a=b/",
    ],
)
def test_the_application_gets_a_plain_path(gateway: ServedGateway, path: str) -> None:
    (answer,) = told(gateway, get(path))
    assert json.loads(answer.body) == {"status": "ok"}


@pytest.mark.parametrize("target", [b"http://x:99999/v1/models", b"http://x:y/", b"http:///x", b"ftp://x/y", b"*"])
def test_a_target_that_names_nothing_is_refused(target: bytes) -> None:
    with pytest.raises(MalformedRequest):
        plain_target(target, b"GET")


def test_an_absolute_target_stands_for_the_header_host() -> None:
    assert plain_target(b"http://a.example:81?x=//", b"GET") == (b"/?x=//", b"a.example:81")
    assert plain_target(b"*", b"OPTIONS") == (b"*", None)
    assert kind_of(b"/v1/models") is None


@pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.1\r\nconnection: close"])
def test_a_client_that_sends_no_more_is_answered(gateway: ServedGateway, engine: Engine, version: bytes) -> None:
    engine.go_on.clear()
    raw = chat(1, wait=True).replace(b"HTTP/1.1", version)
    with gateway.connect() as connection:
        send(connection, [raw])
        connection.shutdown(socket.SHUT_WR)
        wait_for(lambda: any(isinstance(one.cycle, Exchange) and one.cycle.sent_ahead for one in connections(gateway)))
        engine.go_on.set()
        (answer,) = Answers(connection).wait_for_the_end()
    assert (answer.status, json.loads(answer.body)) == (200, {"asked": 1})


def test_all_that_was_asked_before_half_a_close_is_answered(gateway: ServedGateway) -> None:
    with gateway.connect() as connection:
        send(connection, [chat(1) + get("/healthz") + chat(2, stream=True) + get("/nowhere") + chat(3)[:-5]])
        connection.shutdown(socket.SHUT_WR)
        answers = Answers(connection).wait_for_the_end()
    assert [answer.status for answer in answers] == [200, 200, 200, 404]


@pytest.mark.parametrize("number", [0, 8, 400])
def test_what_waits_before_half_a_request_and_half_a_close_is_answered(
    gateway: ServedGateway, engine: Engine, number: int
) -> None:
    engine.go_on.clear()
    refused = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{}"
    with gateway.connect() as connection:
        send(connection, [chat(1, wait=True) + chat(2, wait=True) + refused * number + chat(3) + chat(4)[:20]])
        connection.shutdown(socket.SHUT_WR)
        if number < 16:  # with more the gateway does not read as far as the end yet
            wait_for(lambda: any(one._is_half_closed for one in connections(gateway)))
        engine.go_on.set()
        answers = Answers(connection).wait_for_the_end()
    assert [answer.status for answer in answers] == [200, 200, *[400] * number, 200]


def test_an_upload_that_is_answered_before_it_is_read_ends_with_half_a_close(gateway: ServedGateway) -> None:
    head = b"POST /v1/files HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
    with gateway.connect() as connection:
        connection.sendall(head + b"ffffffffffffffff\r\n" + b"x" * 87_000)
        connection.shutdown(socket.SHUT_WR)
        (answer,) = Answers(connection).wait_for_the_end()  # within the 8 s of the connection
    assert answer.status == 400


def test_a_client_that_left_without_reading_ends_its_generation(gateway: ServedGateway, engine: Engine) -> None:
    engine.go_on.clear()
    engine.left.clear()
    seen = len(engine.stub.bodies)
    with gateway.connect() as connection:
        send(connection, [chat(1, wait=True)])
        wait_for(lambda: len(engine.stub.bodies) > seen)
    assert engine.left.wait(60)


def test_a_client_that_does_not_read_has_few_requests_parsed(gateway: ServedGateway) -> None:
    request = b"GET / HTTP/1.1\r\n\r\n"
    with gateway.connect() as connection:
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            while True:
                connection.sendall(request * 10_000)
        waiting = max(len(one.pipeline) for one in connections(gateway))
    assert 16 <= waiting < 2 * PIECE / len(request)


def connections(gateway: ServedGateway) -> list[Any]:
    return list(gateway.gateway.edge.clients)


@pytest.mark.long
def test_a_large_upload_waits_at_the_client_while_it_is_stored(gateway: ServedGateway) -> None:
    process, stop = psutil.Process(), threading.Event()
    sizes = [process.memory_info().rss]

    def watch() -> None:
        while not stop.wait(0.01):
            sizes.append(process.memory_info().rss)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        head = "POST /v1/files HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: multipart/form-data; boundary=B\r\n"
        purpose = b'--B\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'
        part = purpose + b'--B\r\ncontent-disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n'
        end = b"\r\n--B--\r\n"
        with gateway.connect() as client:
            client.sendall(f"{head}content-length: {len(part + end) + UPLOAD_BYTES}\r\n\r\n".encode() + part)
            for _ in range(UPLOAD_BYTES >> 20):
                client.sendall(b"x" * ((1 << 20) - 1) + b"\n")
            client.sendall(end)
            assert client.recv(12) == b"HTTP/1.1 400"
    finally:
        stop.set()
        watching.join()
    assert max(sizes) - sizes[0] < UPLOAD_BYTES / 4
