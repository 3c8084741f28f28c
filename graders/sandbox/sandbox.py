"""The sandbox of Python graders: bubblewrap around a Python of its own for every sample.

Bubblewrap makes namespaces in which there are no other processes, no network and no files but Python's own, read-only.
Limits of the kernel bound memory, processor time, files and threads, and a clock bounds the time.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Final

from graders.errors import Fault, GradingFailed, SandboxMissing
from graders.sandbox.system_calls import filter_program

BUBBLEWRAP: Final = "bwrap"
STAGE: Final = Path(__file__).parent / "stage.py"
PACKAGES: Final = ("numpy", "numpy.libs", "rapidfuzz")
"""Packages of Lorry's environment that a grader may import besides the standard library."""
MIB: Final = 2**20
_LONGEST_ANSWER: Final = 64 * 1024
_LONGEST_MESSAGE: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxLimits:
    """The limits of one call of a Python grader."""

    time_s: float = 10.0
    """Also the limit of processor time, in whole seconds."""
    memory_bytes: int = 1024 * MIB
    """Address space, Python's own included."""
    file_bytes: int = 16 * MIB
    """Size of a file, and of all files in /tmp together, which is gone after the call."""
    open_files: int = 64
    threads: int = 32

    def for_kernel(self) -> Mapping[str, int]:
        """Return the limits by the names that the module `resource` has for them."""
        return {
            "RLIMIT_AS": self.memory_bytes,
            "RLIMIT_CPU": max(1, round(self.time_s)),
            "RLIMIT_FSIZE": self.file_bytes,
            "RLIMIT_NOFILE": self.open_files,
            "RLIMIT_NPROC": self.threads,
            "RLIMIT_CORE": 0,
        }


LIMITS: Final = SandboxLimits()


def run_grader(source: str, namespaces: Mapping[str, Any] | None, limits: SandboxLimits = LIMITS) -> float:
    """Return what `grade(sample, item)` of *source* returns; without *namespaces* only check that it is there.

    Raises `GradingFailed` if the grader fails or breaks a limit, `SandboxMissing` if nothing can be run safely here.
    """
    command, program = _command(limits), _filter()
    order = {"source": source, "namespaces": namespaces, "limits": limits.for_kernel()}
    with _file(json.dumps(order).encode()) as asked, _file(b"") as answered, _file(program) as filtered:
        seccomp = os.dup(filtered.fileno())
        try:
            began = time.monotonic()
            process = subprocess.Popen(
                [command[0], "--seccomp", str(seccomp), *command[1:]],
                stdin=asked,
                stdout=answered,
                stderr=subprocess.PIPE,
                pass_fds=(seccomp,),
                env={},
                start_new_session=True,
            )
        finally:
            os.close(seccomp)
        trouble = _wait(process, limits.time_s)
        answered.seek(0)
        lines = answered.read(_LONGEST_ANSWER).splitlines()
    if not lines:
        raise SandboxMissing(f"bubblewrap cannot make a sandbox here: {trouble or process.returncode}; {WANTED}")
    return _reward(lines[1:], time.monotonic() - began, limits)


WANTED: Final = (
    "Python graders need the program bwrap (Debian's package bubblewrap) and a kernel that lets this user make "
    "namespaces, on x86_64 or aarch64"
)


def check_sandbox() -> None:
    """Raise `SandboxMissing` unless a grader can be run here."""
    run_grader("def grade(sample, item): return 1.0", None)


def _wait(process: subprocess.Popen[bytes], time_s: float) -> str:
    """Wait for the end, or make one; return what bubblewrap complained of."""
    try:
        _, complaint = process.communicate(timeout=time_s + 1.0)
    except subprocess.TimeoutExpired:
        # The first process of the namespace ends with bubblewrap, and all others with the first.
        process.kill()
        _, complaint = process.communicate()
    return complaint.decode(errors="replace").strip()[:_LONGEST_MESSAGE]


def _reward(lines: list[bytes], seconds: float, limits: SandboxLimits) -> float:
    if not lines:
        if seconds >= limits.time_s:
            raise GradingFailed(Fault.PYTHON, f"the grader took longer than {limits.time_s:g} s")
        memory = limits.memory_bytes // MIB
        raise GradingFailed(Fault.PYTHON, f"the grader ended without an answer; it may use {memory} MiB of memory")
    try:
        answer = json.loads(lines[0])
        error, reward = answer.get("error"), float(answer.get("reward", 0.0))
    except (ValueError, TypeError, AttributeError) as exc:
        raise GradingFailed(Fault.PYTHON, "the grader overwrote its answer") from exc
    if error is not None:
        raise GradingFailed(Fault.PYTHON, str(error)[:_LONGEST_MESSAGE])
    if not abs(reward) < float("inf"):
        raise GradingFailed(Fault.PYTHON, f"grade returned {reward}, which is not a finite number")
    return reward


@contextmanager
def _file(content: bytes) -> Iterator[BinaryIO]:
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.seek(0)
        yield file


@cache
def _filter() -> bytes:
    program = filter_program()
    if program is None:
        raise SandboxMissing(f"the system calls of {os.uname().machine} are not known; {WANTED}")
    return program


@cache
def _command(limits: SandboxLimits) -> tuple[str, ...]:
    bubblewrap = shutil.which(BUBBLEWRAP)
    if bubblewrap is None:
        raise SandboxMissing(f"there is no program bwrap on the PATH; {WANTED}")
    return (
        bubblewrap,
        *("--unshare-all", "--die-with-parent", "--new-session", "--clearenv"),
        *("--uid", "65534", "--gid", "65534", "--cap-drop", "ALL", "--hostname", "grader"),
        *_visible_files(),
        *("--size", str(limits.file_bytes), "--tmpfs", "/tmp"),  # noqa: S108 - the sandbox's own
        *("--dev-bind", "/dev/null", "/dev/null", "--dev-bind", "/dev/urandom", "/dev/urandom"),
        *("--remount-ro", "/", "--chdir", "/tmp"),  # noqa: S108
        *(os.path.realpath(sys.executable), "-I", "-S", "-B", "-c", STAGE.read_text()),
    )


def _visible_files() -> Iterator[str]:
    """Yield the options that show Python's own files, read-only, and nothing else of the machine."""
    yield from ("--ro-bind", "/usr", "/usr")
    for folder in ("/lib", "/lib64"):
        if os.path.islink(folder):
            yield from ("--symlink", os.readlink(folder), folder)
        elif os.path.isdir(folder):
            yield from ("--ro-bind", folder, folder)
    if not Path(sys.base_prefix).is_relative_to("/usr"):
        yield from ("--ro-bind", sys.base_prefix, sys.base_prefix)
    for name in PACKAGES:
        package = Path(sysconfig.get_path("platlib")) / name
        if package.is_dir():
            yield from ("--ro-bind", str(package), f"/packages/{name}")
