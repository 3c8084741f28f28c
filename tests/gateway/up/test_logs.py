"""Every process has a log of its own, of which rotation loses nothing, and whose tracebacks people can read."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from pathlib import Path

from gateway.up.logs import LogFile
from registry.json_lines import JsonLines

LINES = 300


def write(handler: LogFile, writer: int) -> None:
    for number in range(LINES):
        handler.emit(logging.makeLogRecord({"msg": "line", "writer": writer, "number": number}))


def test_processes_of_one_role_lose_no_line_when_they_rotate(tmp_path: Path) -> None:
    handlers = [LogFile(tmp_path, "gateway", largest_bytes=12_000) for _ in range(2)]
    threads = [threading.Thread(target=write, args=pair) for pair in zip(handlers, range(2), strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for handler in handlers:
        handler.close()
    assert {path.name for path in tmp_path.glob("gateway*.log")} == {"gateway.log", "gateway-2.log"}
    told = [json.loads(line) for path in tmp_path.glob("gateway*.log*") for line in path.read_text().splitlines()]
    assert sorted((line["writer"], line["number"]) for line in told) == [
        (writer, number) for writer in range(2) for number in range(LINES)
    ]


def test_a_process_goes_on_in_the_file_of_one_that_was_killed(tmp_path: Path) -> None:
    story = (
        "import os, pathlib; from gateway.up.logs import LogFile; "
        f"LogFile(pathlib.Path({str(tmp_path)!r}), 'gateway'); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", story], check=False).returncode == -9
    handler = LogFile(tmp_path, "gateway")
    handler.close()
    assert [path.name for path in tmp_path.glob("gateway*.log")] == ["gateway.log"]


def test_a_traceback_follows_its_line_and_forges_no_other() -> None:
    try:
        raise ValueError('bad\n{"level": "error", "message": "forged"}')
    except ValueError:
        record = logging.getLogger("gateway").makeRecord("gateway", 40, "f", 1, "failed", (), sys.exc_info())
    first, *rest = JsonLines().format(record).splitlines()
    told = json.loads(first)
    assert (told["message"], told["exception"].splitlines()[0]) == ("failed", "ValueError: bad")
    assert rest[0] == "    Traceback (most recent call last):"
    assert all(line.startswith("    ") for line in rest)
