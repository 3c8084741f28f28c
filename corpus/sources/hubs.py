"""Data sets on Hugging Face and ModelScope, at one revision: `hf://datasets/OWNER/NAME@REVISION/FILES`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

from corpus.errors import SourceRefused
from corpus.sources.tables import READERS

SHAPE: Final = "hf://datasets/OWNER/NAME@REVISION/FILES or ms://datasets/OWNER/NAME@REVISION/FILES"
_HUBS: Final[Mapping[str, str]] = {"hf": "huggingface", "ms": "modelscope"}
_ADDRESS: Final = re.compile(
    r"(?P<hub>hf|ms)://datasets/(?P<name>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(?P<revision>[^/@\s]+))?(?:/(?P<files>.+))?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """A data set of a hub."""

    hub: str
    name: str
    revision: str
    files: str | None
    """Pattern of the paths of its files; None for the only one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """The files of a data set on this machine."""

    revision: str
    """The commit, whatever name of it was asked for."""
    files: Sequence[tuple[str, Path]]
    """Path in the data set, and here."""


def is_address(source: str) -> bool:
    """Return whether *source* names a place on a hub."""
    return "://" in source


def parse_address(source: str) -> DataSet:
    """Return the data set of an address; `SourceRefused`."""
    found = _ADDRESS.fullmatch(source)
    if found is None:
        raise SourceRefused(f"{source}: is no address of a data set; give {SHAPE}")
    if found["revision"] is None:
        raise SourceRefused(
            f"{source}: names no revision, so that tomorrow it may be other data; give {SHAPE}, with a commit, a tag "
            "or a branch"
        )
    return DataSet(hub=found["hub"], name=found["name"], revision=found["revision"], files=found["files"])


def fetch(asked: DataSet) -> Fetched:
    """Return the files that the address names, fetched at one commit; `SourceRefused`."""
    from hubs.catalog import HUBS
    from hubs.errors import HubError
    from hubs.repository import Content, Repository

    hub, repository = HUBS[_HUBS[asked.hub]], Repository(content=Content.DATASET, name=asked.name)
    try:
        snapshot = hub.snapshot(repository, asked.revision)
        chosen = _chosen(asked, [file.path for file in snapshot.files])
        files = [(path, hub.cached(repository, snapshot.commit, path)) for path in chosen]
    except HubError as exc:
        raise SourceRefused(str(exc)) from exc
    return Fetched(revision=snapshot.commit, files=files)


def _chosen(asked: DataSet, paths: Sequence[str]) -> list[str]:
    """Return the paths that the address names, sorted; `SourceRefused`."""
    tables = [path for path in paths if Path(path).suffix.lower() in READERS]
    chosen = [path for path in tables if asked.files is None or fnmatch(path, asked.files)]
    if not chosen or (asked.files is None and len(chosen) > 1):
        listed = ", ".join(sorted(tables)[:10]) or "none that can be read"
        why = "has several files; name one, or a pattern" if chosen else "has no such file"
        raise SourceRefused(f"{asked.name}@{asked.revision}: {why}. Its files: {listed}")
    return sorted(chosen)
