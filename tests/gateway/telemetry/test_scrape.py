"""A gateway that is scraped answers for all gateways of its home."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx2
import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.settings import GatewaySettings
from registry.database import Registry
from registry.types import Base
from tests.gateway.replica_rows import replica_row
from tests.gateway.served import ServedGateway
from tests.stub_engine import StubEngine, answer

SETTINGS = GatewaySettings(route_refresh_s=0.05)
CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "words that nobody else may read"}]}
OK = answer(200, b'{"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}')


@pytest.fixture
def engine() -> Iterator[StubEngine]:
    stub = StubEngine(OK)
    yield stub
    stub.close()


@pytest.fixture
def registry(sqlite_registry: Registry, base: Base, engine: StubEngine) -> Registry:
    """A registry with one replica."""
    sqlite_registry.bases.enter(base)
    replica = replica_row("r0", engine="vllm", url=engine.url, pool="default")
    sqlite_registry.replicas.report(replica)
    return sqlite_registry


def gateway(registry: Registry, home: Path) -> ServedGateway:
    return ServedGateway(SETTINGS, registry, home=home)


def requests_by_process(client: httpx2.Client) -> list[float]:
    """How many requests each process has counted; those of names that do not exist are among them."""
    families = {family.name: family for family in text_string_to_metric_families(client.get("/metrics").text)}
    counted: dict[str, float] = {}
    for sample in families["gateway_requests"].samples:
        counted[sample.labels["gateway"]] = counted.get(sample.labels["gateway"], 0.0) + sample.value
    heard = {sample.labels["heard"]: sample.value for sample in families["gateway_processes"].samples}
    assert heard == {"true": len(families["gateway_route_table_timestamp_seconds"].samples), "false": 0}
    return sorted(counted.values())


@pytest.mark.long
def test_a_scrape_of_either_has_the_whole_and_a_gateway_that_ends_takes_its_share_along(
    registry: Registry, tmp_path: Path
) -> None:
    with gateway(registry, tmp_path) as first:
        one = first.client
        with gateway(registry, tmp_path) as second:
            two = second.client
            for client, count in ((one, 1), (two, 3)):
                for _ in range(count):
                    assert client.post("/v1/chat/completions", json=CHAT).status_code == 200
            two.post("/v1/chat/completions", json=CHAT | {"model": "ghost"})
            assert requests_by_process(one) == requests_by_process(two) == [1.0, 4.0]
        assert requests_by_process(one) == [1.0]


def test_the_access_log_has_every_request_and_no_word_of_it(registry: Registry, tmp_path: Path) -> None:
    with gateway(registry, tmp_path) as served:
        client = served.client
        headers = {"x-request-id": "mine", "authorization": "Bearer sk-lorry-secret"}
        client.post("/v1/chat/completions", json=CHAT, headers=headers)
        client.post("/v1/chat/completions", json=CHAT | {"model": "ghost"})
        client.get("/v1/models")
    text = (tmp_path / "logs" / "access.log").read_text()
    lines = [orjson.loads(line) for line in text.splitlines()]
    assert [(line["model"], line["status"], line["reason"]) for line in lines] == [
        ("tiny", 200, ""),
        ("ghost", 404, "model_not_found"),
    ]
    assert (lines[0]["request_id"], lines[0]["prompt_tokens"], lines[0]["completion_tokens"]) == ("mine", 5, 2)
    assert "nobody else" not in text
    assert "secret" not in text


def test_the_access_log_has_why_an_engine_refused_a_request(registry: Registry, tmp_path: Path) -> None:
    refusal = b'{"error": {"message": "words: too many", "type": "t", "param": "messages", "code": "too_long"}}'
    stub = StubEngine(answer(400, refusal))
    registry.replicas.report(replace(registry.replicas.list()[0], url=stub.url))
    with gateway(registry, tmp_path) as served:
        assert served.client.post("/v1/chat/completions", json=CHAT).content == refusal
    stub.close()
    (line,) = (tmp_path / "logs" / "access.log").read_text().splitlines()
    assert (orjson.loads(line)["status"], orjson.loads(line)["reason"]) == (400, "too_long (messages)")
    assert "words" not in line
