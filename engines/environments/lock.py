"""The lock of an environment: no two processes build or remove it at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from engines.environments.record import environment_folder
from engines.errors import EnvironmentFailed


@contextmanager
def environment_lock(home: Path, kind: str) -> Iterator[None]:
    """Hold the environment; `EnvironmentFailed` while another process does, `OSError` where nothing can be written."""
    folder = environment_folder(home, kind)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # The lock lies beside the folder, because a build removes the folder.
    lock = FileLock(folder.with_name(f".{kind}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout as exc:
        raise EnvironmentFailed(
            f"another `lorry envs install {kind}` or `lorry envs remove {kind}` runs with LORRY_HOME={home}"
        ) from exc
    try:
        yield
    finally:
        lock.release()
