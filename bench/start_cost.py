"""Measure what `lorry up` costs: seconds to each step of the start and to the end, and its processes at rest.

    python bench/start_cost.py [--home FOLDER] [--starts 2] [--rest 20] [--json FILE]

The first start is in an empty home (unless `--home` names one that is not), the others follow in the same home. Each is
stopped by SIGTERM after it answered one chat, settled for some seconds and rested. The processor time of a step is that
of the whole tree, user and system, with the processes that have ended. At rest, RSS counts a page once for every
process that maps it, PSS once altogether, and the processor's share is that of one core over the rest.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Final

import httpx2
import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.comparison.native import free_ports
from bench.comparison.process_tree import command_of, tree_of
from bench.comparison.process_tree import processor_s as processor_s_of_living

LORRY: Final = [sys.executable, "-c", "from gateway.cli import main; main()"]
READY: Final = "Lorry is ready"
START_TIMEOUT_S: Final = 600.0
FIELDS: Final = ("rss_mb", "pss_mb", "core_percent")
SETTLE_S: Final = 10.0
"""Seconds between the chat and the rest, in which the trainer starts and the chat's memory is given back."""
_CHAT: Final = {
    "model": "smollm2-135m-instruct",
    "messages": [{"role": "user", "content": "Say hello."}],
    "max_tokens": 8,
    "stream": True,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A line that `lorry up` printed, or the first token: when, and how much processor time the tree had used."""

    at_s: float
    processor_s: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """A process at rest: its memory in megabytes of 1e6 bytes, and its share of one core in percent."""

    name: str
    core_percent: float
    rss_mb: float
    pss_mb: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A start: its steps and, after the rest, its processes."""

    load: float
    steps: list[Step]
    processes: list[Usage]
    stop_s: float
    """Seconds from SIGTERM until `lorry up` and all that it started had ended."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, help="LORRY_HOME; a new empty folder that is removed afterwards otherwise")
    parser.add_argument("--starts", type=int, default=2)
    parser.add_argument("--rest", type=float, default=20.0, help="seconds for which it rests, 10 s after the chat")
    parser.add_argument("--json", type=Path, help="write the figures into this file")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        home = args.home or Path(scratch) / "home"
        starts = []
        for number in range(1, args.starts + 1):
            starts.append(measure(home, args.rest))
            print_start(f"start {number}", starts[-1])
    if args.json:
        args.json.write_text(json.dumps([asdict(start) for start in starts], indent=1))


def measure(home: Path, rest_s: float) -> Start:
    """Start Lorry in *home*, wait for the first token, let it settle and rest, read the usage, stop it."""
    (port,) = free_ports(1)
    load = os.getloadavg()[0]
    began = time.monotonic()
    steps: list[Step] = []
    up = start(home, port)

    def note(text: str) -> None:
        seconds = time.monotonic() - began
        steps.append(Step(at_s=seconds, processor_s=processor_s(up.pid), text=text))

    try:
        assert up.stdout is not None
        for line in lines_of(up.stdout):
            note(line)
            if READY in line:
                break
        else:
            raise SystemExit("`lorry up` did not start: " + "; ".join(step.text for step in steps[-3:]))
        wait_for_token(f"http://127.0.0.1:{port}")
        note("first token")
        time.sleep(SETTLE_S)
        note("settled")
        usage = usage_over(up.pid, rest_s)
        note("rested")
    finally:
        stop_s = stop(up)
    return Start(load=load, steps=steps, processes=usage, stop_s=stop_s)


def start(home: Path, port: int) -> subprocess.Popen[str]:
    """Return a `lorry up` that begins."""
    environment = {name: value for name, value in os.environ.items() if name != "LORRY_CONFIG"}
    environment |= {"LORRY_HOME": str(home), "PYTHONUNBUFFERED": "1"}
    command = [*LORRY, "up", "--port", str(port)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def stop(up: subprocess.Popen[str]) -> float:
    """Send SIGTERM and return the seconds until the whole tree has ended; kill what takes a minute."""
    tree = tree_of(up.pid)
    began = time.monotonic()
    up.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        up.wait(60.0)
    psutil.wait_procs(tree, timeout=15.0)
    took = time.monotonic() - began
    if up.poll() is None:
        up.kill()
    return took


def lines_of(output: IO[str]) -> Iterator[str]:
    """Yield the lines of *output* as they come; a thread reads to the end, so that the writer never waits."""
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def read() -> None:
        with contextlib.suppress(ValueError):  # closed at the end
            for line in output:
                lines.put(line.strip())
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    while (line := lines.get(timeout=START_TIMEOUT_S)) is not None:
        if line:
            yield line


def wait_for_token(url: str) -> None:
    """Ask for a streamed chat and return with the first event that holds a word."""
    with httpx2.stream("POST", f"{url}/v1/chat/completions", json=_CHAT, timeout=120.0, trust_env=False) as answer:
        answer.raise_for_status()
        found = False
        for line in answer.iter_lines():  # to the end: an answer that is cut off would be another kind of rest
            found |= line.startswith("data:") and '"content":"' in line and '"content":""' not in line
    if not found:
        raise SystemExit("the chat came back without a token")


def processor_s(pid: int) -> float:
    """Return the processor seconds of the tree below *pid*, with those of processes that were waited for."""
    total = 0.0
    for process in tree_of(pid):
        with contextlib.suppress(psutil.Error):
            total += sum(process.cpu_times()[:4])
    return total


def usage_over(pid: int, rest_s: float) -> list[Usage]:
    """Return the usage of every process of the tree over the next *rest_s* seconds, the largest first."""
    before = {process: processor_s_of_living([process]) for process in tree_of(pid)}
    began = time.monotonic()
    time.sleep(rest_s)
    found = []
    for process in tree_of(pid):
        with contextlib.suppress(psutil.Error):
            spent = processor_s_of_living([process]) - before.get(process, 0.0)
            percent = 100 * spent / (time.monotonic() - began)
            memory = process.memory_full_info()
            rss_mb, pss_mb = memory.rss / 1e6, memory.pss / 1e6
            found.append(Usage(name=name_of(process), core_percent=percent, rss_mb=rss_mb, pss_mb=pss_mb))
    return sorted(found, key=lambda one: -one.rss_mb)


def name_of(process: psutil.Process) -> str:
    """Return what a person calls the process: its module, program or actor."""
    command = command_of(process)
    if "gateway.cli" in command:
        return "lorry up (guardian)"
    words = command.split()
    if "-m" in words:
        return " ".join(words[words.index("-m") + 1 :])[:60]
    python_file = next((word for word in words[:3] if word.endswith(".py")), None)
    return Path(python_file or words[0]).name if words else process.name()


def print_start(title: str, start: Start) -> None:
    """Print one start as two tables."""
    print(f"\n{title} (load average before it: {start.load:.2f})\n  wall s   cpu s  step")
    for step in start.steps:
        print(f"{step.at_s:8.1f}{step.processor_s:8.1f}  {step.text}")
    print("\n  RSS MB  PSS MB  % of a core  process")
    for one in start.processes:
        print(f"{one.rss_mb:8.0f}{one.pss_mb:8.0f}{one.core_percent:13.2f}  {one.name}")
    rss, pss, core = (sum(getattr(one, field) for one in start.processes) for field in FIELDS)
    print(f"{rss:8.0f}{pss:8.0f}{core:13.2f}  the sum of {len(start.processes)} processes")
    print(f"\n{start.stop_s:8.1f}  s from SIGTERM until nothing was left")


if __name__ == "__main__":
    main()
