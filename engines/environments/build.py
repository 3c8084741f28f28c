"""Build an environment: install its list, then import its main package; an interrupted build goes on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from engines.environments.catalog import BUILT
from engines.environments.installer import pip_command, uv_variables, venv_command
from engines.environments.lock import environment_lock
from engines.environments.pinned_list import LISTS, REPOSITORY, PinnedList, list_digest, list_path, read_list
from engines.environments.record import (
    EnvironmentRecord,
    environment_folder,
    environment_python,
    read_record,
    write_record,
)
from engines.errors import EnvironmentFailed
from engines.kinds import SeparateEnvironment
from engines.process import LAUNCHER

_VERSION_MARK: Final = "lorry-version "
_LAST_LINES: Final = 15
_STEPS: Final = 2


class BuildProgress(Protocol):
    """A watcher of a build."""

    def step(self, number: int, total: int, name: str) -> None:
        """Show that step *number*, from 1, begins."""
        ...

    def output(self, text: str) -> None:
        """Show a line that the running step printed."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildPlan:
    """The environment to build, and its sources."""

    home: Path
    kind: str
    variant: str
    kinds: Mapping[str, SeparateEnvironment] = field(default_factory=lambda: BUILT)
    lists: Path = LISTS
    repository: Path = REPOSITORY


def build_environment(plan: BuildPlan, progress: BuildProgress) -> EnvironmentRecord:
    """Build the environment and import its main package; what was built before from the same list is kept.

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
        with environment_lock(plan.home, plan.kind):
            return _Build(plan, path, pinned, progress).finish()
    except OSError as exc:
        raise EnvironmentFailed(f"{environment_folder(plan.home, plan.kind)} cannot be written: {exc}") from exc


class _Build:
    """A build; its record holds after each step how far it came."""

    def __init__(self, plan: BuildPlan, path: Path, pinned: PinnedList, progress: BuildProgress) -> None:
        self._plan = plan
        self._path = path
        self._pinned = pinned
        self._progress = progress
        self._environment = plan.kinds[plan.kind]
        self._folder = environment_folder(plan.home, plan.kind)
        self._python = environment_python(plan.home, plan.kind)

    def finish(self) -> EnvironmentRecord:
        """Do what the record does not list as done."""
        plan = self._plan
        wanted = EnvironmentRecord(
            kind=plan.kind, variant=plan.variant, digest=list_digest(self._path, plan.repository)
        )
        record = read_record(plan.home, plan.kind)
        if record is None or (record.variant, record.digest) != (wanted.variant, wanted.digest):
            record = wanted
        if record.version is not None:
            return record
        if not record.is_installed:
            record = self._install(record)
        self._progress.step(_STEPS, _STEPS, f"importing {plan.kind}")
        return self._stored(record.model_copy(update={"version": self._check(), "size_bytes": _size_of(self._folder)}))

    def _install(self, record: EnvironmentRecord) -> EnvironmentRecord:
        """Install the list into a fresh environment.

        A killed installer may leave a package that is there in part and counts as installed. So nothing is built upon
        an unfinished installation: what was downloaded before comes from uv's cache in seconds.
        """
        self._progress.step(1, _STEPS, f"installing {len(self._pinned.requirements)} packages")
        if self._folder.exists():
            self._progress.output(f"Removing {self._folder}, which is unfinished or was made from another list")
            shutil.rmtree(self._folder)
        self._run(venv_command(self._folder), {})
        self._stored(record)
        self._run([*pip_command("sync", self._python), str(self._path)], uv_variables())
        for packages in self._folder.glob("lib/python3*/site-packages"):
            for pattern in self._pinned.remove:
                for file in packages.glob(pattern):
                    self._progress.output(f"Removing {file.relative_to(packages)}")
                    file.unlink()
        return self._stored(record.model_copy(update={"is_installed": True}))

    def _stored(self, record: EnvironmentRecord) -> EnvironmentRecord:
        write_record(self._plan.home, record)
        return record

    def _check(self) -> str:
        """Return the version of the main package, which the environment's interpreter imported."""
        program = (
            f"{self._environment.check}\n"
            "from importlib.metadata import distributions\n"
            f"names = {self._environment.distributions!r}\n"
            "found = {d.name: d.version for d in distributions() if d.name in names}\n"
            f"print({_VERSION_MARK!r} + next(found[name] for name in names if name in found))\n"
        )
        variables = self._environment.cpu_variables if self._plan.variant == "cpu" else {}
        # `-I`: the packages must come from the environment, not from `PYTHONPATH` or the packages of the user.
        printed = self._run([str(self._python), "-I", "-c", program], variables)
        marked = [line.removeprefix(_VERSION_MARK) for line in printed if line.startswith(_VERSION_MARK)]
        return marked[-1]

    def _run(self, command: list[str], variables: Mapping[str, str]) -> list[str]:
        """Run *command* and return the last lines of its output; `EnvironmentFailed` with them unless it exits with 0.

        The command dies with us.
        """
        last: deque[str] = deque(maxlen=_LAST_LINES)
        with subprocess.Popen(
            [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), *command],
            cwd=self._plan.repository,  # which local packages in the list are relative to
            env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"} | dict(variables),
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
                    self._progress.output(line.rstrip())
        if child.returncode != 0:
            words = " ".join(command)[:120]
            raise EnvironmentFailed(f"`{words} ...` exited with {child.returncode}; it ended with:\n" + "\n".join(last))
        return list(last)


def _size_of(folder: Path) -> int:
    """Return the bytes of the files below *folder*, links not followed."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())
