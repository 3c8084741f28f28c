"""The two native programs: the mock engine, and the clients that load a gateway."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from engines.load import gauges
from tests.waiting import wait_for

MODEL = "mock"
"""The mock engine's base model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentiles:
    """Microseconds; None where there was nothing."""

    p50: float | None
    p99: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The counts and times of the clients of one run, after its warm-up."""

    seconds: float
    ok: int
    failed: int
    failures: dict[str, int]
    chunks: int
    client_cpu_s: float
    whole_us: Percentiles
    on_the_way_us: Percentiles
    """From the making of a chunk to its reading."""
    first_token_us: tuple[float, ...]
    """The delays of every stream."""


class MockEngine:
    """A running mock with one port for each engine."""

    def __init__(self, programs: Path, count: int, ports: Sequence[int] = ()) -> None:
        """Return once all *ports* answer; free ones where none are given."""
        self.ports = tuple(ports) or free_ports(count)
        words = [word for port in self.ports for word in ("--port", str(port))]
        self.process = subprocess.Popen([program(programs, "mock_openai"), "--model", MODEL, *words])
        self._http = httpx2.Client(trust_env=False, timeout=2.0)
        wait_for(self._answers)

    def control(self, port: int, fault: str) -> None:
        """Give the engine at *port* a fault, as in `cut after=8`; `none` ends it."""
        answer = self._http.post(f"http://127.0.0.1:{port}/control", content=f"fault={fault}")
        answer.raise_for_status()

    def count(self, name: str) -> int:
        """Return a figure of the mock's metrics, summed over all ports."""
        texts = [self._http.get(f"http://127.0.0.1:{port}/metrics").text for port in self.ports]
        return round(sum(sum(gauges(text, name)[name]) for text in texts))

    @property
    def running(self) -> int:
        """Return the number of answers under way."""
        return self.count("vllm:num_requests_running")

    def stop(self) -> None:
        """End the mock."""
        self._http.close()
        self.process.terminate()
        self.process.wait()

    def _answers(self) -> bool:
        try:
            return all(self._http.get(f"http://127.0.0.1:{port}/health").is_success for port in self.ports)
        except httpx2.TransportError:
            return False


@contextmanager
def mock_engine(programs: Path, count: int) -> Iterator[MockEngine]:
    """Provide a mock with *count* engines that ends with the block."""
    mock = MockEngine(programs, count)
    try:
        yield mock
    finally:
        mock.stop()


def generate_load(programs: Path, words: Sequence[str], on_measuring: Callable[[], None]) -> Load:
    """Run the clients with these options; *on_measuring* is called when their warm-up is over."""
    command = [program(programs, "load_generator"), *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stderr:
            if line.strip() == "measuring":
                on_measuring()
                break
        told = process.stdout.read()
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)} exited with {process.returncode}")
    return load_from(json.loads(told))


def load_from(told: dict[str, Any]) -> Load:
    """Return the load that the load generator reported."""
    outcomes = ("refused", "unanswered", "status", "error_event", "cut", "timed_out")
    return Load(
        seconds=told["seconds"],
        ok=told["ok"],
        failed=told["failed"],
        failures={name: told[name] for name in outcomes if told[name]},
        chunks=told["chunks"],
        client_cpu_s=told["client_cpu_s"],
        whole_us=Percentiles(**told["whole_us"]),
        on_the_way_us=Percentiles(**told["on_the_way_us"]),
        first_token_us=tuple(told["first_token_us"]),
    )


def program(programs: Path, name: str) -> str:
    """Return the path of a compiled program, which the Makefile makes."""
    path = programs / name
    if not path.exists():
        raise SystemExit(f"{path} is not there: `make {path}` compiles it")
    return str(path)


def free_ports(count: int) -> tuple[int, ...]:
    """Return ports of the loopback that nobody listened on a moment ago."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = tuple(int(probe.getsockname()[1]) for probe in probes)
    for probe in probes:
        probe.close()
    return ports
