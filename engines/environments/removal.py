"""Remove an environment from the disk."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import psutil

from engines.environments.catalog import BUILT
from engines.environments.lock import environment_lock
from engines.environments.record import environment_folder, forget_record
from engines.errors import EnvironmentFailed
from engines.kinds import SeparateEnvironment


def remove_environment(home: Path, kind: str, kinds: Mapping[str, SeparateEnvironment] = BUILT) -> Path | None:
    """Remove the environment and return its folder, None where there was none.

    `EnvironmentFailed` for a kind that there is not, while it is built, while a process of it runs, or where the folder
    cannot be removed.
    """
    if kind not in kinds:
        raise EnvironmentFailed(f"{kind!r} is not one of {', '.join(sorted(kinds))}")
    folder = environment_folder(home, kind)
    if not folder.exists():
        return None
    try:
        with environment_lock(home, kind):
            if running := _processes_of(folder):
                numbers = ", ".join(str(number) for number in running)
                raise EnvironmentFailed(f"{folder} is in use by process {numbers}; stop it first")
            forget_record(home, kind)  # first, so that a removal which is killed leaves nothing that counts as whole
            shutil.rmtree(folder)
    except OSError as exc:
        raise EnvironmentFailed(f"{folder} cannot be removed: {exc}") from exc
    return folder


def _processes_of(folder: Path) -> list[int]:
    """Return the processes that were started by a program of this folder, as far as they can be read."""
    programs = f"{folder / 'bin'}/"
    commands = ((process.pid, process.info["cmdline"]) for process in psutil.process_iter(["cmdline"]))
    return [number for number, command in commands if command and command[0].startswith(programs)]
