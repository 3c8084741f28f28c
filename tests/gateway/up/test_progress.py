"""A start shows what it waits for: a line for each step, and in a terminal how far the present one is."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from gateway.up.progress import StartProgress
from gateway.up.start_watch import broken_engines, missing_parts
from registry.types import Replica, ReplicaState, Slot, SlotState

URL = "http://127.0.0.1:8080"
STARTING = Replica(
    id="here-vllm-1",
    base="tiny",
    engine="vllm",
    url="",
    state=ReplicaState.STARTING,
    capacity=4,
    slots=(),
    message="",
    started_at=0.0,
    heartbeat_at=0.0,
    pool="default",
)
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
    def missing(status: int | None, *replicas: Replica) -> list[str]:
        return missing_parts(["default"], replicas, URL, status)

    assert missing(None) == ["the process of pool 'default'", f"the gateways to listen on {URL}"]
    assert missing(503, STARTING) == ["the vllm engine to load tiny"]
    assert missing(503, PROVING) == ["the vllm engine to prove its adapters (1 of 2 done)"]
    assert missing(503, READY) == ["the gateways to see that the engine is ready"]
    assert missing(200, READY) == []


def test_a_ready_pool_does_not_answer_for_another() -> None:
    assert missing_parts(["default", "other"], [READY], URL, 200) == ["the process of pool 'other'"]


def test_a_broken_engine_is_named_with_its_log() -> None:
    broken = replace(STARTING, state=ReplicaState.UNHEALTHY, message="out of memory")
    assert broken_engines([broken, READY], Path("/logs")) == ["out of memory (its log: /logs/here-vllm-1.log)"]


def test_without_a_terminal_a_step_is_one_plain_line_at_its_beginning() -> None:
    output = io.StringIO()
    with StartProgress(Console(file=output, width=20)) as progress:
        progress.begin("Unpacking the bundled model (once)")
        progress.show_detail(", 3 of 9 tensors")
        progress.begin("Starting [Ray]")
        lines = output.getvalue().splitlines()
    assert [line.partition(" s  ")[2] for line in lines] == ["Unpacking the bundled model (once)", "Starting [Ray]"]
    assert output.getvalue().splitlines() == lines


def test_a_terminal_shows_the_present_step_and_keeps_those_that_are_done() -> None:
    output = io.StringIO()
    with StartProgress(Console(file=output, width=80, force_terminal=True, color_system=None)) as progress:
        progress.begin("Unpacking")
        progress.show_detail(", 3 of 9 tensors")
        assert progress.__rich__().startswith("Unpacking, 3 of 9 tensors (")
        progress.begin("Starting Ray")
    assert "s  Unpacking: done" in output.getvalue()
    assert "Starting Ray: done" not in output.getvalue()
