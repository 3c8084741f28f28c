"""Data sets of ModelScope, by its own client: `MODELSCOPE_ENDPOINT` and `MODELSCOPE_API_TOKEN` hold here too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from corpus.errors import SourceRefused
from corpus.sources.hubs import DataSet, Hub


@contextmanager
def _client(asked: DataSet) -> Iterator[Any]:
    try:
        from modelscope_hub import HubApi, HubError
    except ImportError as exc:
        raise SourceRefused(f"{asked.name}: ModelScope needs the extra `data`: pip install 'lorry[data]'") from exc
    from requests.exceptions import RequestException

    try:
        yield HubApi()
    except (HubError, RequestException, OSError) as exc:
        first = str(exc).strip().split("\n", 1)[0]
        raise SourceRefused(f"{asked.name}@{asked.revision}: the hub refuses it: {first}") from exc


def _commit(asked: DataSet) -> str:
    """Return the revision as it is: the hub names no commit of a branch or tag, so files are recorded by digest too."""
    return asked.revision


def _paths(asked: DataSet) -> Sequence[str]:
    with _client(asked) as client:
        files = client.list_repo_files(asked.name, "dataset", revision=asked.revision)
    return [file.path for file in files if not file.is_dir]


def _fetch(asked: DataSet, path: str) -> Path:
    with _client(asked) as client:
        return Path(client.download_file(asked.name, "dataset", path, revision=asked.revision))


MODELSCOPE: Final = Hub(commit=_commit, paths=_paths, fetch=_fetch)
