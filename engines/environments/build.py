"""Build the environment of an engine, step by step, so that an interrupted build goes on where it stopped."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from filelock import FileLock, Timeout

from engines.environments.environment import (
    KINDS,
    LISTS,
    REPOSITORY,
    EnvironmentKind,
    EnvironmentRecord,
    PinnedList,
    environment_folder,
    environment_python,
    list_digest,
    list_path,
    read_list,
    read_record,
    write_record,
)
from engines.environments.installer import install_command, install_environment
from engines.errors import EnvironmentFailed
from engines.process import LAUNCHER

_VERSION_MARK: Final = "lorry-engine-version "
_LAST_LINES: Final = 15


class BuildProgress(Protocol):
    """Who watches a build."""

    def step(self, number: int, total: int, name: str) -> None:
        """Step *number*, from 1, begins."""
        ...

    def line(self, text: str) -> None:
        """The running step said something."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildPlan:
    """One environment to build, and from where."""

    home: Path
    kind: str
    variant: str
    kinds: Mapping[str, EnvironmentKind] = field(default_factory=lambda: KINDS)
    lists: Path = LISTS
    repository: Path = REPOSITORY


def build_environment(plan: BuildPlan, progress: BuildProgress) -> EnvironmentRecord:
    """The environment is whole and its engine was imported; what was built before from the same list is kept.

    `EnvironmentFailed` for a kind or variant that there is no list for, one that is published as an image only, a step
    that fails, a folder that cannot be written, or a build of the same kind that is running.
    """
    if plan.kind not in plan.kinds:
        raise EnvironmentFailed(f"{plan.kind!r} is not one of {', '.join(sorted(plan.kinds))}")
    path = list_path(plan.kind, plan.variant, plan.lists)
    pinned = read_list(path)
    if pinned.image is not None:
        raise EnvironmentFailed(
            f"{plan.kind} for {plan.variant} is published as a container image only: {pinned.image}; "
            "run Lorry in it, or the engine from it"
        )
    try:
        with _alone(plan):
            record = _begin(plan, list_digest(path, plan.repository), progress)
            return record if record.version is not None else _Build(plan, pinned, progress).go_on(record)
    except OSError as exc:
        raise EnvironmentFailed(f"{environment_folder(plan.home, plan.kind)} cannot be written: {exc}") from exc


@contextmanager
def _alone(plan: BuildPlan) -> Iterator[None]:
    folder = environment_folder(plan.home, plan.kind)
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f".{plan.kind}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout as exc:
        raise EnvironmentFailed(f"another `lorry envs install {plan.kind}` runs with LORRY_HOME={plan.home}") from exc
    try:
        yield
    finally:
        lock.release()


def _begin(plan: BuildPlan, digest: str, progress: BuildProgress) -> EnvironmentRecord:
    """The record to go on from: that of a build from the same list, else of a fresh virtual environment."""
    record = read_record(plan.home, plan.kind)
    if record is not None and (record.variant, record.digest) == (plan.variant, digest):
        return record
    folder = environment_folder(plan.home, plan.kind)
    if record is not None:
        progress.line(f"Removing {folder}, which was made from another list or is broken")
        shutil.rmtree(folder)
    _run([sys.executable, "-m", "venv", "--without-pip", str(folder)], {}, plan.home, progress.line)
    fresh = EnvironmentRecord(kind=plan.kind, variant=plan.variant, digest=digest)
    write_record(plan.home, fresh)
    return fresh


class _Build:
    """The steps that are left."""

    def __init__(self, plan: BuildPlan, pinned: PinnedList, progress: BuildProgress) -> None:
        self._plan = plan
        self._pinned = pinned
        self._progress = progress
        self._kind = plan.kinds[plan.kind]
        self._python = environment_python(plan.home, plan.kind)

    def go_on(self, record: EnvironmentRecord) -> EnvironmentRecord:
        """Do what *record* does not say is done, and write each step down when it is."""
        total = len(self._pinned.steps) + 1
        for number, step in enumerate(self._pinned.steps, start=1):
            if step.name in record.finished:
                continue
            self._progress.step(number, total, f"installing {step.name}")
            self._install(step.requirements)
            record = record.model_copy(update={"finished": (*record.finished, step.name)})
            write_record(self._plan.home, record)
        self._progress.step(total, total, f"importing {self._plan.kind}")
        self._remove()
        version = self._check()
        size = folder_size(environment_folder(self._plan.home, self._plan.kind))
        record = record.model_copy(update={"version": version, "size_bytes": size})
        write_record(self._plan.home, record)
        return record

    def _install(self, requirements: Sequence[str]) -> None:
        options = ["--no-deps", "--no-build-isolation"]
        self._run([*install_command(self._python), *options, *requirements], install_environment())

    def _remove(self) -> None:
        for packages in environment_folder(self._plan.home, self._plan.kind).glob("lib/python3*/site-packages"):
            for pattern in self._pinned.remove:
                for file in packages.glob(pattern):
                    self._progress.line(f"Removing {file.relative_to(packages)}")
                    file.unlink()

    def _check(self) -> str:
        """The version of the engine that the environment's interpreter imported."""
        program = (
            f"{self._kind.check}\n"
            "from importlib.metadata import distributions\n"
            f"names = {self._kind.distributions!r}\n"
            "found = {d.name: d.version for d in distributions() if d.name in names}\n"
            f"print({_VERSION_MARK!r} + next(found[name] for name in names if name in found))\n"
        )
        variables = self._kind.cpu_variables if self._plan.variant == "cpu" else {}
        said = self._run([str(self._python), "-I", "-c", program], variables)
        marked = [line.removeprefix(_VERSION_MARK) for line in said if line.startswith(_VERSION_MARK)]
        return marked[-1]

    def _run(self, command: list[str], variables: Mapping[str, str]) -> list[str]:
        return _run(command, variables, self._plan.repository, self._progress.line)


def _run(command: list[str], variables: Mapping[str, str], cwd: Path, tell: Callable[[str], None]) -> list[str]:
    """The last lines that *command* said; `EnvironmentFailed` with them unless it exits with 0. It dies with us."""
    bound = [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), *command]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"} | dict(variables)
    last: deque[str] = deque(maxlen=_LAST_LINES)
    with subprocess.Popen(
        bound,
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        process_group=0,  # which is killed with us
    ) as child:
        assert child.stdout is not None  # noqa: S101 - PIPE was asked for
        for line in child.stdout:
            last.append(line.rstrip())
            if not line.startswith(_VERSION_MARK):
                tell(line.rstrip())
    if child.returncode != 0:
        words = " ".join(command)[:120]
        raise EnvironmentFailed(f"`{words} ...` exited with {child.returncode}; it ended with:\n" + "\n".join(last))
    return list(last)


def folder_size(folder: Path) -> int:
    """Bytes of the files below *folder*, links not followed."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())
