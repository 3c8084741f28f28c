"""The access log has the right lines for the right requests, and its files stay small."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.telemetry.access_log import AccessLog
from gateway.telemetry.finished import Finished
from tests.gateway.cancelled_flush import cancel_and_flush_again
from tests.gateway.telemetry.finished_facts import facts


def logged(path: Path, share: float, requests: Iterable[Finished]) -> list[dict[str, Any]]:
    """The lines that a log with this *share* wrote."""
    log = AccessLog(path, share)
    for request in requests:
        log.finished(request)
    asyncio.run(log.flush())
    return [orjson.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def test_a_line_says_who_asked_for_what_and_how_it_went(tmp_path: Path) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    (line,) = logged(tmp_path / "logs" / "access.log", 1.0, [facts(traceparent=f"00-{trace}-b7ad6b7169203331-01")])
    assert line.pop("at") > 1e9
    assert line == {
        "request_id": "req-1",
        "path": "/v1/chat/completions",
        "status": 200,
        "reason": "",
        "key_id": "",
        "model": "support",
        "served_name": "support@7",
        "pool": "default",
        "replica": "r0",
        "streamed": True,
        "retries": 0,
        "seconds": 1.2,
        "queued_s": 0.0,
        "cold_start_s": 0.0,
        "first_byte_s": 0.2,
        "overhead_s": 0.0003,
        "prompt_tokens": 30,
        "completion_tokens": 11,
        "trace_id": trace,
    }


def test_a_share_of_the_good_and_all_that_failed(tmp_path: Path) -> None:
    good = [facts(request_id=f"req-{number}") for number in range(1000)]
    bad = [facts(request_id=f"bad-{number}", reason="broken") for number in range(100)]
    lines = logged(tmp_path / "access.log", 0.1, [*good, *bad])
    assert sum(line["reason"] == "broken" for line in lines) == 100
    assert 50 < len(lines) - 100 < 200


@pytest.mark.parametrize("reason", ["", "broken"])
def test_a_share_of_nothing_is_nothing(tmp_path: Path, reason: str) -> None:
    assert logged(tmp_path / "access.log", 0.0, [facts(reason=reason)]) == []


def test_a_flush_that_is_cancelled_before_its_thread_begins_loses_no_line(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = AccessLog(path, 1.0)
    log.finished(facts())
    asyncio.run(cancel_and_flush_again(log.flush))
    assert len(path.read_bytes().splitlines()) == 1


def test_two_gateways_share_the_file_and_turn_it_over_without_losing_a_line(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    logs = [AccessLog(path, 1.0, largest_bytes=8_000) for _ in range(2)]

    async def story() -> None:
        for number in range(40):
            for log in logs:
                log.finished(facts(request_id=f"req-{number}"))
            await asyncio.gather(*(log.flush() for log in logs))

    asyncio.run(story())
    files = sorted(file for file in tmp_path.iterdir() if not file.name.endswith(".lock"))
    assert [file.name for file in files] == ["access.log", "access.log.1", "access.log.2", "access.log.3"]
    assert all(file.stat().st_size <= 8_000 for file in files)
    lines = [orjson.loads(line)["request_id"] for file in files for line in file.read_bytes().splitlines()]
    assert sorted(lines) == sorted(f"req-{number}" for number in range(40) for _ in range(2))


def test_a_place_that_cannot_be_written_costs_lines_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("in the way")
    assert logged(tmp_path / "logs" / "access.log", 1.0, [facts()]) == []
