"""A folder that appears whole or not at all, in a place that was empty."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from exports.errors import TargetRefused
from registry.disk import sha256_of


def check_target(target: Path) -> None:
    """Raise `TargetRefused` unless *target* can be made: nothing or an empty folder is there, in a folder that is."""
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        what = "a file" if target.is_file() else "not empty"
        raise TargetRefused(f"{target} is {what}; give a new folder, or remove it first")
    if not target.absolute().parent.is_dir():
        raise TargetRefused(f"there is no folder {target.absolute().parent}")


def check_new_file(target: Path) -> None:
    """Raise `TargetRefused` unless the file *target* can be made: nothing is there, in a folder that is."""
    if target.exists():
        raise TargetRefused(f"{target} is there already; give another name, or remove it first")
    check_target(target)


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield a folder beside *target* that takes its place after the block, and is removed if that fails."""
    check_target(target)
    try:
        staging = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.absolute().parent))
    except OSError as exc:
        raise TargetRefused(f"{target}: {exc.strerror}") from exc
    try:
        yield staging
        staging.chmod(0o755)
        if target.is_dir():
            target.rmdir()
        os.replace(staging, target)
    except OSError as exc:
        raise TargetRefused(f"{target}: {exc.strerror or exc}") from exc
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def check_files(folder: Path, expected: Mapping[str, str]) -> None:
    """Raise `TargetRefused` unless each file of *expected* (path -> sha256) is in *folder* with these bytes."""
    for name, digest in expected.items():
        if not (folder / name).is_file() or sha256_of(folder / name) != digest:
            raise TargetRefused(f"{folder / name} has other bytes than the model's; is the disk full or damaged?")


@contextmanager
def new_file(target: Path) -> Iterator[Path]:
    """Yield a path in a folder of its own beside *target*, whose file takes its place after the block."""
    check_new_file(target)
    try:
        staging = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.absolute().parent))
    except OSError as exc:
        raise TargetRefused(f"{target}: {exc.strerror}") from exc
    try:
        yield staging / target.name
        os.replace(staging / target.name, target)
    except OSError as exc:
        raise TargetRefused(f"{target}: {exc.strerror or exc}") from exc
    finally:
        shutil.rmtree(staging, ignore_errors=True)
