"""nginx and Caddy with our files pass on what clients and Lorry send: streams, uploads, ends."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from gateway.settings import GatewaySettings
from registry.database import Registry
from registry.types import Base
from tests.gateway.http.proxy_server import Proxy
from tests.gateway.replica_rows import replica_row
from tests.gateway.served import ServedGateway
from tests.stub_engine import StubEngine, StubHandler

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
LARGE = 9 * 1024 * 1024


def event(word: str) -> bytes:
    choice = {"index": 0, "delta": {"content": word}, "finish_reason": None}
    made = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "tiny", "choices": [choice]}
    text = f"data: {json.dumps(made)}\n\n".encode()
    return b"%x\r\n%b\r\n" % (len(text), text)


class TwoWords:
    """Sends a word, waits until the client has it, and sends another one; or sees the client leave."""

    def __init__(self) -> None:
        self.has_first = threading.Event()
        self.left = threading.Event()

    def __call__(self, handler: StubHandler) -> None:
        handler.wfile.write(HEAD + event("first"))
        handler.connection.settimeout(0.05)
        handler.close_connection = True
        while not self.has_first.is_set():
            try:
                if handler.connection.recv(1) == b"":
                    self.left.set()
                    return
            except TimeoutError:
                continue
        handler.wfile.write(event("second") + b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")


@pytest.fixture
def words() -> TwoWords:
    return TwoWords()


@pytest.fixture(params=["nginx", "caddy"])
def proxy(
    request: pytest.FixtureRequest, sqlite_registry: Registry, base: Base, words: TwoWords, tmp_path: Path
) -> Iterator[Proxy]:
    """The proxy before a gateway with one engine."""
    sqlite_registry.bases.enter(base)
    engine = StubEngine(words)
    sqlite_registry.replicas.report(replica_row("r0", url=engine.url))
    folder = tmp_path / "proxy"
    folder.mkdir()
    with ServedGateway(GatewaySettings(), sqlite_registry) as gateway:
        started = Proxy(request.param, gateway.port, folder)
        yield started
        started.close()
    engine.close()


def client_of(proxy: Proxy) -> openai.OpenAI:
    http = openai.DefaultHttpxClient(verify=proxy.trust, trust_env=False)
    return openai.OpenAI(base_url=f"{proxy.url}/v1", api_key="none", http_client=http, max_retries=0, timeout=60)


def test_each_event_arrives_when_it_is_sent(proxy: Proxy, words: TwoWords) -> None:
    got = []
    with client_of(proxy) as client:
        chat = client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "hi"}], stream=True)
        for chunk in chat:
            got.append(chunk.choices[0].delta.content)
            words.has_first.set()  # the engine sends the second word only now
    assert got == ["first", "second"]


def test_a_client_that_leaves_ends_the_generation(proxy: Proxy, words: TwoWords) -> None:
    with client_of(proxy) as client:
        chat = client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "hi"}], stream=True)
        assert next(iter(chat)).choices[0].delta.content == "first"
        chat.close()
    assert words.left.wait(60)


def test_a_large_file_passes(proxy: Proxy) -> None:
    with client_of(proxy) as client:
        file = client.files.create(file=("large.bin", b"x" * LARGE), purpose="user_data")
    assert file.bytes == LARGE


@pytest.mark.parametrize("proxy", ["nginx"], indirect=True)
def test_nginx_refuses_by_the_announced_length_what_lorry_would_refuse(proxy: Proxy) -> None:
    head = b"POST /v1/files HTTP/1.1\r\nhost: localhost\r\ncontent-length: 600000000\r\n"
    head += b"content-type: multipart/form-data; boundary=b\r\n\r\n"
    with proxy.connect() as connection:
        connection.sendall(head)
        assert connection.recv(16).split()[1] == b"413"
