"""A start shows what it waits for: a line for each step, and in a terminal how far the present one is."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from gateway.up.progress import StartProgress
from gateway.up.start_watch import broken_engines, missing_parts
from registry.states import ReplicaState, SlotState
from registry.types import Replica, Slot
from tests.gateway.replica_rows import replica_row
from tests.waiting import wait_for

URL = "http://127.0.0.1:8080"
STARTING = replica_row("here-vllm-1", engine="vllm", url="", state=ReplicaState.STARTING, capacity=4, pool="default")
PROVING = replace(
    STARTING,
    url="http://127.0.0.1:9",
    slots=(
        Slot(served_name="a@1", state=SlotState.READY, reason="", message="", proof={}),
        Slot(served_name="b@1", state=SlotState.PROVING, reason="", message="", proof={}),
    ),
)
READY = replace(PROVING, state=ReplicaState.READY)


def test_every_stage_of_a_start_names_what_is_missing() -> None:
    def missing(status: int | None, *replicas: Replica) -> dict[str, str]:
        return missing_parts(["default"], replicas, URL, status)

    assert missing(None) == {"engine": "starting its process", "gateways": f"starting, to listen on {URL}"}
    listening = {"gateways": "listening, until an engine is ready"}
    assert missing(503, STARTING) == {"engine": "vllm loads tiny"} | listening
    assert missing(503, PROVING) == {"engine": "vllm proves its adapters, 1 of 2 done"} | listening
    assert missing(503, READY) == listening
    assert missing(200, READY) == {}


def test_a_ready_pool_does_not_answer_for_another() -> None:
    missing = missing_parts(["default", "other"], [READY], URL, 200)
    assert missing == {"engine of pool other": "starting its process"}


def test_a_broken_engine_is_named_with_its_log() -> None:
    broken = replace(STARTING, state=ReplicaState.UNHEALTHY, message="out of memory")
    assert broken_engines([broken, READY], Path("/logs")) == ["out of memory (its log: /logs/here-vllm-1.log)"]


def lines_after(output: io.StringIO) -> list[str]:
    return [line.partition(" s  ")[2] for line in output.getvalue().splitlines()]


def test_without_a_terminal_every_change_is_one_plain_line() -> None:
    output = io.StringIO()
    with StartProgress(Console(file=output, width=20), repeat_s=3600.0) as progress:
        progress.begin("base model", "unpacking the bundled one (once)")
        progress.show_detail("base model", ", 3 of 9 tensors")
        progress.begin("Ray", "starting its [processes]")
        progress.begin("Ray", "starting its [processes]")
        progress.end("base model")
        progress.end("base model")
        progress.end("trainer")
    assert lines_after(output) == [
        "base model: unpacking the bundled one (once)",
        "Ray: starting its [processes]",
        "base model: ready",
    ]


def test_what_takes_long_is_named_again_with_how_far_it_is() -> None:
    output = io.StringIO()
    with StartProgress(Console(file=output, width=200), repeat_s=0.01) as progress:
        progress.begin("database", "bringing its schema up to date")
        progress.end("database")
        progress.begin("base model", "unpacking")
        progress.show_detail("base model", ", 3 of 9 tensors")
        again = r"still waiting for: base model \(unpacking, 3 of 9 tensors, \d+ s\)"
        wait_for(lambda: re.search(again, output.getvalue()))


def test_a_terminal_shows_a_list_that_stays_with_the_times_of_what_is_done() -> None:
    output = io.StringIO()
    with StartProgress(Console(file=output, width=80, force_terminal=True, color_system=None)) as progress:
        progress.begin("base model", "unpacking")
        progress.show_detail("base model", ", 3 of 9 tensors")
        progress.begin("Ray", "starting")
        progress.end("Ray")
    text = " ".join(output.getvalue().split())
    assert "... base model unpacking, 3 of 9 tensors (0 s)" in text
    assert re.search(r"\d s Ray ready", text)


def test_times_count_from_the_launch_of_the_command() -> None:
    output = io.StringIO()
    with StartProgress(Console(file=output), time.monotonic() - 1000.0, repeat_s=3600.0) as progress:
        progress.note("here")
        assert progress.seconds >= 1000.0
    assert output.getvalue().startswith("1000.")


def test_the_launch_is_when_the_process_began_not_when_python_had_imported() -> None:
    code = "import time; time.sleep(0.3); from gateway.up.launch import launched_at; print(launched_at())"
    before = time.monotonic()
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # The kernel counts in hundredths of a second.
    assert before - 0.02 <= float(told.stdout) <= time.monotonic() - 0.3
