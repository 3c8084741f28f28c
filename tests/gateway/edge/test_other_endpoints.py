"""Requests that are neither chat nor completion are routed alike, and only to engines that offer their path."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from gateway.routing.paths import HOT_PATHS
from gateway.routing.routing import Endpoint, Offers, RouteTable
from gateway.settings import GatewaySettings
from registry.database import Registry
from registry.publishing.publish import publish
from registry.states import SlotState
from registry.types import Base, Replica, RevisionDraft, Slot
from tests.gateway.replica_rows import replica_row
from tests.gateway.served import ServedGateway
from tests.stub_engine import StubEngine, answer
from tests.waiting import wait_for

SETTINGS = GatewaySettings(replica_wait_s=20.0, route_refresh_s=0.05)
OK = answer(200, b'{"object": "list", "usage": {"input_tokens": 5, "output_tokens": 2, "prompt_tokens": 5}}')
BODIES: dict[str, dict[str, Any]] = {
    "/v1/embeddings": {"input": ["a", "b"]},
    "/v1/rerank": {"query": "a", "documents": ["b", "c"]},
    "/v2/rerank": {"query": "a", "documents": ["b", "c"]},
    "/rerank": {"query": "a", "documents": ["b", "c"]},
    "/tokenize": {"prompt": "hi"},
}
OTHERS = ("/v1/audio/transcriptions", *BODIES)

Add = Callable[..., StubEngine]


@pytest.fixture
def add(sqlite_registry: Registry, base: Base) -> Iterator[Add]:
    """Adds a replica whose engine offers *paths*; `support@1` is loaded there."""
    sqlite_registry.bases.enter(base)
    engines: list[StubEngine] = []

    def start(pool: str, paths: tuple[str, ...], kind: str = "vllm", script: Any = OK) -> StubEngine:
        engines.append(StubEngine(script))
        sqlite_registry.replicas.report(
            replica_row(
                f"r{len(engines)}",
                engine=kind,
                url=engines[-1].url,
                slots=(Slot(served_name="support@1", state=SlotState.READY),),
                pool=pool,
                paths=paths,
            )
        )
        return engines[-1]

    yield start
    for engine in engines:
        engine.close()


@pytest.fixture
def client(
    sqlite_registry: Registry, base: Base, add: Add, make_adapter: Callable[..., Path]
) -> Iterator[httpx2.Client]:
    """A gateway; `support@1` is stable."""
    publish(sqlite_registry, make_adapter(1), RevisionDraft(adapter="support", base=base.name, owner="me"))
    sqlite_registry.adapters.set_first_stable("support", 1, "first_revision")
    with ServedGateway(SETTINGS, sqlite_registry) as served:
        yield served.client


def test_the_table_names_every_endpoint_that_is_tested_here() -> None:
    relayed = {kind.path for kind in HOT_PATHS.values() if not kind.through}
    assert relayed == {"/v1/chat/completions", "/v1/completions", *OTHERS}


@pytest.mark.parametrize("path", BODIES)
def test_a_request_goes_by_the_route_to_an_engine_that_offers_it(client: httpx2.Client, add: Add, path: str) -> None:
    chat, other = add("chat", ("/v1/chat/completions",)), add("other", (path,))
    told = client.post(path, json={"model": "support"} | BODIES[path])
    assert (told.status_code, told.headers["x-lorry-revision"], told.headers["x-lorry-replica"]) == (
        200,
        "support@1",
        "r2",
    )
    assert (chat.bodies, other.paths) == ([], [path])
    assert orjson.loads(other.bodies[0]) == {"model": "support@1"} | BODIES[path]
    counted = [line for line in client.get("/metrics").text.splitlines() if line.startswith("gateway_prompt_tokens")]
    assert [line.rpartition(" ")[2] for line in counted] == ["5.0"]


def test_a_form_goes_on_with_the_revision_as_its_model(client: httpx2.Client, add: Add) -> None:
    engine = add("audio", ("/v1/audio/transcriptions",))
    sound = bytes(range(256)) * 40
    files = {"file": ("a.wav", sound, "audio/wav")}
    told = client.post("/v1/audio/transcriptions", data={"model": "support", "language": "en"}, files=files)
    assert (told.status_code, told.headers["x-lorry-revision"]) == (200, "support@1")
    assert engine.heads[0]["content-type"].startswith("multipart/form-data; boundary=")
    body = engine.bodies[0]
    assert sound in body
    assert b'name="model"\r\n\r\nsupport@1\r\n' in body
    assert b'name="language"\r\n\r\nen\r\n' in body


@pytest.mark.parametrize("path", OTHERS)
def test_where_no_pool_of_the_name_offers_it_the_answer_says_which_do(
    client: httpx2.Client, add: Add, sqlite_registry: Registry, path: str
) -> None:
    engine = add("chat", ("/v1/chat/completions",))

    def ask() -> httpx2.Response:
        if path in BODIES:
            return client.post(path, json={"model": "tiny"} | BODIES[path])
        return client.post(path, data={"model": "tiny"}, files={"file": ("a.wav", b"RIFF", "audio/wav")})

    told = ask()
    assert (told.status_code, told.json()["error"]["code"]) == (404, "endpoint_not_offered")
    assert "No pool here does" in told.json()["error"]["message"]
    assert engine.bodies == []
    other = StubEngine(OK)
    row = sqlite_registry.replicas.get("r1")
    sqlite_registry.bases.enter(Base(name="other", path="/other", digest="d", licence="", created_at=0.0))
    fields = {name: getattr(row, name) for name in row.__slots__}
    sqlite_registry.replicas.report(
        Replica(**fields | {"id": "r9", "base": "other", "pool": "elsewhere", "url": other.url, "paths": (path,)})
    )
    wait_for(lambda: "Pools that do: elsewhere (other)." in ask().json()["error"]["message"])
    other.close()


def test_an_adapter_is_not_sent_where_the_base_model_would_answer_for_it(client: httpx2.Client, add: Add) -> None:
    engine = add("chat", ("/v1/rerank", "/v1/embeddings"), kind="sglang")
    body = BODIES["/v1/rerank"]
    assert client.post("/v1/rerank", json=body | {"model": "tiny"}).status_code == 200
    told = client.post("/v1/rerank", json=body | {"model": "support"})
    assert told.status_code == 404
    assert "by the base model alone" in told.json()["error"]["message"]
    assert client.post("/v1/embeddings", json=BODIES["/v1/embeddings"] | {"model": "support"}).status_code == 200
    assert engine.paths == ["/v1/rerank", "/v1/embeddings"]


def test_a_form_above_the_limit_is_refused(sqlite_registry: Registry, base: Base) -> None:
    settings = SETTINGS.model_copy(update={"max_form_bytes": 300})
    with ServedGateway(settings, sqlite_registry) as served:
        files = {"file": ("a.wav", b"x" * 300, "audio/wav")}
        assert served.client.post("/v1/audio/transcriptions", data={"model": "tiny"}, files=files).status_code == 413


def test_who_offers_a_path_is_found_once_for_the_same_endpoints() -> None:
    def endpoint(name: str, *paths: str) -> Endpoint:
        return Endpoint(
            replica=name,
            url="",
            base="tiny",
            engine="vllm",
            served_names=frozenset({"tiny"}),
            pool="p",
            paths=frozenset(paths),
        )

    offers = Offers()
    both = (endpoint("a", "/tokenize"), endpoint("b", "/tokenize", "/v1/embeddings"))
    table = RouteTable(serving={"tiny": both})
    assert offers.of(table, "tiny", "/tokenize") is both
    embedding = offers.of(table, "tiny", "/v1/embeddings")
    assert [one.replica for one in embedding] == ["b"]
    assert offers.of(table, "tiny", "/v1/embeddings") is embedding
    assert offers.of(RouteTable(serving={"tiny": both[:1]}), "tiny", "/v1/embeddings") == ()
