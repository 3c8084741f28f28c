"""The clients of a drill: half of them stream, half wait for whole answers, and every request is written down."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.comparison.native import program
from bench.drilling.outcome import Request, read_log

CLIENTS: Final = 64
LONGEST_S: Final = 600.0
FINISH_S: Final = 75.0
TIMEOUT_S: Final = 70.0
"""How long a client waits for an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """The requests that the clients send, and where to."""

    port: int
    key: str | None
    model: str
    tokens: int
    pace_us: int
    prompt_bytes: int


class Clients:
    """The 64 clients of a drill, which have begun."""

    def __init__(self, programs: Path, asking: Asking, folder: Path) -> None:
        """Start clients that send requests until `end` is called."""
        words = ["--port", str(asking.port), "--model", asking.model, "--clients", str(CLIENTS // 2)]
        words += ["--tokens", str(asking.tokens), "--pace-us", str(asking.pace_us), "--warm-s", "0"]
        words += ["--prompt-bytes", str(asking.prompt_bytes)]
        words += ["--seconds", str(LONGEST_S), "--finish-s", str(FINISH_S), "--timeout-s", str(TIMEOUT_S)]
        words += [] if asking.key is None else ["--key", asking.key]
        self._logs = (folder / "streams.log", folder / "whole.log")
        options: tuple[list[str], list[str]] = (["--stream"], [])
        self._processes = [
            subprocess.Popen(
                [program(programs, "load_generator"), *words, *more, "--log", str(log)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for log, more in zip(self._logs, options, strict=True)
        ]

    def end(self) -> list[list[Request]]:
        """Wait for requests in progress and return the outcomes of the streams and of the other requests."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            if process.wait() != 0:
                raise SystemExit("the load generator failed")
        return [read_log(log) for log in self._logs]

    def stop(self) -> None:
        """End the clients if they run."""
        for process in self._processes:
            process.kill()
            process.wait()
