"""The report on an uploaded training file: made in the background, by one gateway, also after another died."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import psutil
import pytest
from openai import OpenAI

from gateway.reports.runner import ReportRunner
from gateway.settings import GatewaySettings
from registry.database import Registry
from registry.states import ReportState
from registry.types import Base
from tests.gateway.cli.lorry_command import lorry
from tests.gateway.sdk import sdk
from tests.gateway.served import ServedGateway
from tests.waiting import wait_for

ROW = {"messages": [{"role": "user", "content": "Where is my pot?"}, {"role": "assistant", "content": "Here it is."}]}
LINES = "".join(json.dumps(ROW) + "\n" for _ in range(20)).encode()


@pytest.fixture
def gateway(sqlite_registry: Registry, base: Base) -> Iterator[str]:
    sqlite_registry.bases.enter(base)
    with ServedGateway(GatewaySettings(route_refresh_s=0.02), sqlite_registry) as served:
        yield f"http://127.0.0.1:{served.port}"


@pytest.mark.corpus
def test_a_file_is_reported_on_and_signed_for(gateway: str, sqlite_registry: Registry, tmp_path: Path) -> None:
    client = OpenAI(base_url=f"{gateway}/v1", api_key="none")
    file = client.files.create(file=("chats.jsonl", LINES), purpose="fine-tune")
    done = client.files.wait_for_processing(file.id, poll_interval=0.1, max_wait_seconds=120)
    assert done.status == "processed"
    assert done.status_details is not None and "19 rows are equal to an earlier one" in done.status_details
    report = httpx.get(f"{gateway}/admin/files/{file.id}/report").json()
    assert (report["rows"], report["exact"]["rows"], report["file"]["name"]) == (20, 19, "chats.jsonl")
    page = httpx.get(f"{gateway}/admin/files/{file.id}/report?html=true")
    assert page.headers["content-type"].startswith("text/html") and "<svg" in page.text

    again = client.files.create(file=("same.jsonl", LINES), purpose="fine-tune")
    assert client.files.wait_for_processing(again.id, poll_interval=0.1).status == "processed"

    (tmp_path / "chats.jsonl").write_bytes(LINES)
    lorry(gateway, "data", "review", str(tmp_path / "chats.jsonl"))
    sheet = tmp_path / "chats.jsonl.review.csv"
    assert "has no verdict" in lorry(gateway, "data", "review", str(tmp_path / "chats.jsonl"), "--sign", code=1)
    line = report["sample"]["lines"][0]
    sheet.write_text(f"line,verdict,note\n{line},bad,too short\n")
    assert "1 rows read, 1 of them bad" in lorry(gateway, "data", "review", str(tmp_path / "chats.jsonl"), "--sign")
    known = sqlite_registry.reports.known_of(report["file"]["sha256"], "local")
    assert (known["review"]["rows"], known["review"]["bad"]) == (1, 1)
    assert any("19 rows are equal" in finding for finding in known["findings"])


def test_until_it_is_there_the_file_says_so_and_can_be_read(url: str) -> None:
    client = sdk(url)
    file = client.files.create(file=("chats.jsonl", LINES), purpose="fine-tune")
    assert file.status == "uploaded"
    answer = httpx.get(f"{url}/admin/files/{file.id}/report")
    assert (answer.status_code, "not ready yet" in answer.json()["error"]["message"]) == (409, True)
    assert client.files.content(file.id).read() == LINES
    other = client.files.create(file=("any.txt", b"x"), purpose="user_data")
    assert (other.status, httpx.get(f"{url}/admin/files/{other.id}/report").status_code) == ("processed", 404)
    client.close()


def test_a_gateway_that_ends_leaves_no_child_and_gives_the_report_back(sqlite_registry: Registry) -> None:
    sqlite_registry.files.add([LINES], filename="a.jsonl", purpose="fine-tune", owner="me")

    def state() -> ReportState | None:
        (file,) = sqlite_registry.reports.open()
        return file.report_state

    def children() -> list[psutil.Process]:
        return [child for child in psutil.Process().children() if "corpus" in child.cmdline()]

    async def begin_and_end() -> None:
        runner = ReportRunner(sqlite_registry, 0.001)
        work = asyncio.create_task(runner.run())
        (child,) = await asyncio.to_thread(wait_for, children)
        assert state() is ReportState.WORKING
        work.cancel()
        await runner.aclose()
        assert not child.is_running()  # nor is it a process that nobody waited for

    asyncio.run(begin_and_end())
    gc.collect()  # what is left open warns, and a warning is an error
    assert state() is ReportState.WAITING


def test_one_gateway_makes_a_report_and_a_dead_one_loses_it(sqlite_registry: Registry) -> None:
    reports = sqlite_registry.reports
    sqlite_registry.files.add([LINES], filename="a", purpose="fine-tune", owner="me")
    (seen,) = reports.open()
    assert (reports.claim(seen), reports.claim(seen)) == (True, False)
    (held,) = reports.open()
    assert held.report_state is ReportState.WORKING
    assert (reports.renew(held), reports.renew(held)) == (True, False)
    (renewed,) = reports.open()
    assert reports.claim(renewed)  # by another, which has seen no beat since
    assert not reports.renew(renewed)
    reports.finish(renewed, {"findings": []}, "")
    assert (reports.open(), reports.report(renewed.digest)) == ([], {"findings": []})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": 100}, "of 100 rows 5 are drawn"),
        ({"sha256": "x"}, "sha256"),
        ({"verdicts": [{"line": 1, "verdict": "fine"}]}, "verdict"),
    ],
)
def test_a_review_that_cannot_be_is_refused(url: str, change: dict[str, object], message: str) -> None:
    body = {"sha256": "a" * 64, "seed": 1, "rows": 20, "verdicts": [{"line": 3, "verdict": "good"}]} | change
    answer = httpx.post(f"{url}/admin/data_reviews", json=body)
    assert (answer.status_code, message in answer.text) == (400, True), answer.text
