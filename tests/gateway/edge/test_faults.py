"""No request waits for ever when engines hang, fail, cut or trickle, and when clients leave or do not read."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from ipaddress import IPv4Address

import httpx2
import pytest

from gateway.settings import GatewaySettings
from gateway.up.listening import listen
from registry.database import Registry
from tests.gateway.edge.raw_client import Answers, send
from tests.gateway.edge.test_relay import CHAT, OK
from tests.gateway.scripted_gateways import ScriptedGateways
from tests.gateway.served import ServedGateway
from tests.stub_engine import Script, StubEngine, StubHandler, answer, by_model, drop, stream, stream_then_drop
from tests.waiting import wait_for

KNOBS = GatewaySettings(
    replica_wait_s=20.0,
    route_refresh_s=0.05,
    first_byte_timeout_s=0.5,
    idle_timeout_s=0.5,
    slow_reader_timeout_s=0.5,
    eject_s=0.05,
    drain_timeout_s=20.0,
)
HOST = IPv4Address("127.0.0.1")
STREAM = {**CHAT, "stream": True}
EVENT = b'data: {"n": 1}\n\n'

Serve = Callable[..., ServedGateway]


@pytest.fixture
def serve(scripted: ScriptedGateways) -> Serve:
    """A gateway before one stub engine for each list of scripts."""

    def start(*scripts: list[Script], room: int = 0, **knobs: object) -> ServedGateway:
        return scripted.serve(*scripts, settings=KNOBS.model_copy(update=knobs), room=room)

    return start


class Hang:
    """Says some bytes, or nothing, and waits until the other end leaves."""

    def __init__(self, *said: bytes) -> None:
        self._said = said
        self.reached = threading.Event()
        self.left = threading.Event()

    def __call__(self, handler: StubHandler) -> None:
        for part in self._said:
            handler.wfile.write(part)
        self.reached.set()
        if handler.connection.recv(1) == b"":
            self.left.set()
        handler.close_connection = True


def cut_short(handler: StubHandler) -> None:
    """Promises more than it says."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{")
    drop(handler)


STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "fault",
    [
        drop,
        cut_short,
        stream_then_drop(),
        stream_then_drop(b'data: {"n":'),
        answer(500, b"{}"),
        answer(502, b"{}"),
        answer(429, b"{}"),
        Hang(),
        Hang(STREAM_HEAD),
        lambda handler: handler.wfile.write(b"SSH-2.0-no\r\n"),
    ],
)
def test_no_client_sees_a_fault_before_its_first_byte(serve: Serve, fault: Script) -> None:
    gateway = serve([fault], [stream(EVENT)])
    for _ in range(4):
        told = gateway.client.post("/v1/chat/completions", json=STREAM)
        assert (told.status_code, told.headers["x-lorry-replica"], told.content) == (200, "r1", EVENT)


def test_an_engine_that_is_full_is_passed_over_so_that_the_budget_for_retries_lasts(
    serve: Serve, engines: list[StubEngine]
) -> None:
    gateway = serve([answer(429, b"{}")], [OK], eject_s=30.0)
    for number in range(40):
        body = {**CHAT, "messages": [{"role": "user", "content": f"{number} of many"}]}
        assert gateway.client.post("/v1/chat/completions", json=body).status_code == 200
    assert len(engines[0].bodies) == gateway.gateway.settings.eject_errors


@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_error_that_every_replica_answers_with_is_passed_on(serve: Serve, status: int) -> None:
    said = b'{"error": {"message": "no", "type": "x", "param": null, "code": "y"}}'
    gateway = serve([answer(status, said)], [answer(status, said)])
    told = gateway.client.post("/v1/chat/completions", json=CHAT)
    assert (told.status_code, told.content) == (status, said)


@pytest.mark.long
def test_retries_are_bounded_and_waiting_for_the_budget_is_too(serve: Serve, engines: list[StubEngine]) -> None:
    gateway = serve([drop], replica_wait_s=0.6, retry_share=0.0, retry_floor_per_s=0.2)
    told = gateway.client.post("/v1/chat/completions", json=CHAT)
    assert (told.status_code, told.json()["error"]["code"]) == (503, "engine_unavailable")
    assert len(engines[0].bodies) <= 3  # the request, and what a budget of ten seconds holds


@pytest.mark.long
def test_a_stream_that_falls_silent_ends_with_an_error_event(serve: Serve) -> None:
    frame = b"%x\r\n%b\r\n" % (len(EVENT), EVENT)
    hang = Hang(STREAM_HEAD, frame)
    told = serve([hang]).client.post("/v1/chat/completions", json=STREAM)
    assert told.content.startswith(EVENT)
    assert json.loads(told.content[len(EVENT) :].removeprefix(b"data: "))["error"]["code"] == "engine_unavailable"
    assert hang.left.wait(60)


def test_a_request_is_given_up_at_its_deadline(serve: Serve) -> None:
    hang = Hang()
    gateway = serve([hang], first_byte_timeout_s=60.0)
    began = time.monotonic()
    told = gateway.client.post("/v1/chat/completions", json=CHAT, headers={"x-request-timeout": "0.3"})
    assert (told.status_code, told.json()["error"]["code"]) == (504, "deadline_exceeded")
    assert 0.3 <= time.monotonic() - began < 60
    assert hang.left.wait(60)


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "soon", "inf"])
def test_a_deadline_is_seconds(serve: Serve, seconds: str) -> None:
    told = serve([OK]).client.post("/v1/chat/completions", json=CHAT, headers={"x-request-timeout": seconds})
    if seconds == "inf":
        assert told.status_code == 200
    else:
        assert (told.status_code, told.json()["error"]["param"]) == (400, "x-request-timeout")


def test_a_deadline_holds_while_there_is_no_replica(serve: Serve) -> None:
    told = serve().client.post("/v1/chat/completions", json=CHAT, headers={"x-request-timeout": "0.3"})
    assert told.status_code in (503, 504)


def request(**fields: object) -> bytes:
    body = json.dumps({**CHAT, **fields}).encode()
    return b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


@pytest.mark.parametrize("said", [(), (STREAM_HEAD,), (STREAM_HEAD, b"f\r\n" + b"data: {}\n\n" + b"data:\r\n")])
def test_a_client_that_leaves_ends_the_generation(serve: Serve, said: tuple[bytes, ...]) -> None:
    hang = Hang(*said)
    gateway = serve([hang], first_byte_timeout_s=60.0, idle_timeout_s=60.0)
    with gateway.connect() as connection:
        send(connection, [request(stream=True)])
        assert hang.reached.wait(60)
    assert hang.left.wait(60)
    wait_for(lambda: not gateway.gateway.edge.under_way)


def test_a_client_that_leaves_while_it_waits_is_forgotten(serve: Serve) -> None:
    gateway = serve(replica_wait_s=60.0)
    with gateway.connect() as connection:
        send(connection, [request()])
        wait_for(lambda: gateway.gateway.edge.under_way)
    wait_for(lambda: not gateway.gateway.edge.under_way)


@pytest.mark.long
def test_a_client_that_does_not_read_stops_its_engine_and_is_cut_off(serve: Serve) -> None:
    stopped = threading.Event()
    sent = [0]

    def flood(handler: StubHandler) -> None:
        handler.wfile.write(STREAM_HEAD)
        event = b"data: " + b"x" * 65_000 + b"\n\n"
        try:
            while sent[0] < 2000:
                handler.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))
                sent[0] += 1
        except OSError:
            stopped.set()
        handler.close_connection = True

    gateway = serve([flood], idle_timeout_s=60.0)
    with gateway.connect() as connection:
        send(connection, [request(stream=True)])
        assert stopped.wait(20)
        assert sent[0] < 1000  # far less than it had to say
        wait_for(lambda: not gateway.gateway.edge.under_way)
        wait_for(lambda: not gateway.gateway.edge.clients)


def closing(handler: StubHandler) -> None:
    """Answers, and closes a connection that it said it would keep."""
    OK(handler)
    handler.close_connection = True


def test_a_kept_connection_that_was_closed_meanwhile_is_no_fault(serve: Serve) -> None:
    gateway = serve([closing])
    for _ in range(20):
        told = gateway.client.post("/v1/chat/completions", json=CHAT)
        assert told.status_code == 200
    assert gateway.gateway.health.share("r0", time.monotonic()) == 1.0


def test_what_the_pool_has_no_room_for_waits_its_turn_or_comes_again_later(serve: Serve) -> None:
    opened = threading.Event()

    def slow(handler: StubHandler) -> None:
        opened.wait(60)
        OK(handler)

    gateway = serve([slow], room=1, queue_limit=1, first_byte_timeout_s=60.0)
    admission = gateway.gateway.admission
    with gateway.connect() as first, gateway.connect() as second:
        answers = [Answers(first), Answers(second)]
        send(first, [request()])
        wait_for(lambda: gateway.gateway.balancer.in_flight("r0") == 1)
        send(second, [request()])
        pool = gateway.gateway.feed.table.endpoints[0].pool
        wait_for(lambda: admission.waiting(pool) == 1)
        refused = gateway.client.post("/v1/chat/completions", json=CHAT)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "overloaded")
        assert int(refused.headers["retry-after"]) >= 1
        opened.set()
        assert [each.wait(1)[0].status for each in answers] == [200, 200]


@pytest.mark.long
def test_a_drain_finishes_what_is_under_way_and_lets_go_of_the_rest(serve: Serve) -> None:
    go_on = threading.Event()

    def held(handler: StubHandler) -> None:
        handler.wfile.write(STREAM_HEAD + b"%x\r\n%b\r\n" % (len(EVENT), EVENT))
        go_on.wait(60)
        handler.wfile.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(EVENT), EVENT))

    gateway = serve([by_model(rtiny=held)], first_byte_timeout_s=60.0, idle_timeout_s=60.0)
    with gateway.connect() as streaming, gateway.connect() as kept:
        stream_answers, kept_answers = Answers(streaming), Answers(kept)
        send(kept, [b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"])
        assert b"connection" not in kept_answers.wait(1)[0].headers
        send(streaming, [request(stream=True)])
        while not stream_answers.begun.body:
            stream_answers.step()
        gateway.begin_drain()
        wait_for(lambda: gateway.gateway.edge.is_draining)
        send(kept, [b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"])
        assert kept_answers.wait(2)[1].headers[b"connection"] == b"close"
        go_on.set()
        told = stream_answers.wait(1)[0]
        assert (told.is_whole, told.body) == (True, 2 * EVENT)
        assert stream_answers.wait_for_the_end() == [told]


@pytest.mark.long
def test_two_gateways_on_one_port_lose_nothing_when_one_is_replaced(serve: Serve, sqlite_registry: Registry) -> None:
    first = serve([OK], [OK])
    knobs = KNOBS.model_copy(update={"replica_wait_s": 10.0})
    first.close()
    listener = listen(HOST, 0)
    port = listener.getsockname()[1]
    old = ServedGateway(knobs, sqlite_registry, listener)
    stop, answered = threading.Event(), [0]
    failures: list[str] = []

    def ask() -> None:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=20) as client:
            while not stop.is_set():
                try:
                    if client.post("/v1/chat/completions", json=CHAT).status_code != 200:
                        failures.append("status")
                except httpx2.HTTPError as exc:
                    failures.append(repr(exc))
                answered[0] += 1

    with ServedGateway(knobs, sqlite_registry, listen(HOST, port)):
        clients = [threading.Thread(target=ask) for _ in range(8)]
        for client in clients:
            client.start()
        wait_for(lambda: answered[0] > 50)
        old.close()
        seen = answered[0]
        wait_for(lambda: answered[0] > seen + 50)
        stop.set()
        for client in clients:
            client.join()
    assert failures == []
