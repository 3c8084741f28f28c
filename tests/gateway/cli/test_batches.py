"""`lorry batches` before a gateway on a scripted engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.settings import GatewaySettings
from registry.database import Registry
from registry.types import Base
from tests.gateway.cli.lorry_command import lorry, run_lorry
from tests.gateway.replica_rows import replica_row
from tests.gateway.served import ServedGateway
from tests.stub_engine import StubEngine, answer
from tests.waiting import wait_for

OK = answer(200, b'{"id": "c", "choices": [], "usage": {"prompt_tokens": 2, "completion_tokens": 1}}')


@pytest.fixture
def url(sqlite_registry: Registry, base: Base) -> Iterator[str]:
    """A gateway before an engine that refuses the first request and answers all others."""
    sqlite_registry.bases.enter(base)
    engine = StubEngine(answer(400, b'{"error": {"message": "no", "code": "why"}}'), OK)
    row = replica_row("r0", url=engine.url)
    sqlite_registry.replicas.report(row)
    with ServedGateway(GatewaySettings(route_refresh_s=0.05, low_disk_bytes=1), sqlite_registry) as gateway:
        yield f"http://127.0.0.1:{gateway.port}"
    engine.close()


def write(path: Path, *custom_ids: str) -> str:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
    fields = {"method": "POST", "url": "/v1/chat/completions", "body": body}
    path.write_text("".join(json.dumps({"custom_id": name} | fields) + "\n" for name in custom_ids))
    return str(path)


@pytest.mark.long
def test_a_file_of_requests_is_answered_shown_and_downloaded(url: str, tmp_path: Path) -> None:
    file = write(tmp_path / "in.jsonl", "a", "b")
    told = json.loads(lorry(url, "batches", "create", file, "--metadata", "night=1", "--follow", "--json"))
    assert (told["status"], told["metadata"]) == ("completed", {"night": "1"})
    shown, remarks = run_lorry("batches", "show", told["id"].removeprefix("batch_")[:6], LORRY_URL=url)
    assert "1 of 2 answered, 1 failed" in shown
    assert "2 read, 1 written" in shown
    assert f"Next: lorry batches download {told['id']}" in remarks
    (answered,) = lorry(url, "batches", "download", told["id"]).splitlines()
    assert lorry(url, "batches", "download", told["id"], "-o", str(tmp_path / "out.jsonl")) == ""
    assert (tmp_path / "out.jsonl").read_text() == answered + "\n"
    refused = json.loads(lorry(url, "batches", "download", told["id"], "--errors"))
    assert {json.loads(answered)["custom_id"], refused["custom_id"]} == {"a", "b"}
    assert "1 of 2" in lorry(url, "batches", "list")
    assert "batch" not in lorry(url, "status").partition("MOVES")[2].partition("NEEDS")[0]


@pytest.mark.long
def test_what_cannot_be_done_is_told_in_a_line(url: str, tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n")
    assert "No such file" in lorry(url, "batches", "create", "none.jsonl", code=1)
    assert "name the path of the requests by --endpoint" in lorry(url, "batches", "create", str(empty), code=1)
    assert "'night' is not KEY=VALUE" in lorry(url, "batches", "create", str(empty), "--metadata", "night", code=2)
    assert "--endpoint: must be /v1/chat" in lorry(url, "batches", "create", str(empty), "--endpoint", "/x", code=1)
    failed = json.loads(
        lorry(url, "batches", "create", str(empty), "--endpoint", "/v1/completions", "--follow", "--json")
    )
    assert failed["status"] == "failed"
    assert "the file has no line" in lorry(url, "batches", "download", failed["id"], code=1)
    assert "no request failed" in lorry(url, "batches", "download", failed["id"], "--errors", code=1)
    assert "cannot become cancelling" in lorry(url, "batches", "cancel", failed["id"], code=1)


@pytest.mark.long
def test_an_open_batch_is_on_the_status_page(url: str, tmp_path: Path, sqlite_registry: Registry) -> None:
    sqlite_registry.replicas.mark_gone("r0")
    file = write(tmp_path / "in.jsonl", "a")
    batch = json.loads(lorry(url, "batches", "create", file, "--json"))["id"]
    wait_for(lambda: "in_progress" in lorry(url, "batches", "show", batch))
    # Without a replica the page has a need, for which the command fails.
    assert f"{batch} of " in run_lorry("status", LORRY_URL=url, code=3)[0]
    assert "0 of 1 requests done" in run_lorry("status", LORRY_URL=url, code=3)[0]
    lorry(url, "batches", "cancel", batch)
    wait_for(lambda: "cancelled" in lorry(url, "batches", "show", batch))
