"""Data sets of Hugging Face, by its own client: `HF_ENDPOINT` and `HF_TOKEN` hold here too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from corpus.errors import SourceRefused
from corpus.sources.hubs import DataSet, Hub


@contextmanager
def _translated(asked: DataSet) -> Iterator[None]:
    from huggingface_hub.errors import (
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except RepositoryNotFoundError as exc:
        raise SourceRefused(f"{asked.name}: there is no such data set, or HF_TOKEN does not open it") from exc
    except RevisionNotFoundError as exc:
        raise SourceRefused(f"{asked.name}: has no revision {asked.revision!r}") from exc
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as exc:
        first = str(exc).strip().split("\n", 1)[0]
        raise SourceRefused(f"{asked.name}: the hub does not answer: {first}") from exc


def _commit(asked: DataSet) -> str:
    from huggingface_hub import HfApi

    with _translated(asked):
        found = HfApi().dataset_info(asked.name, revision=asked.revision).sha
    if not found:
        raise SourceRefused(f"{asked.name}: the hub names no commit of {asked.revision!r}")
    return found


def _paths(asked: DataSet) -> Sequence[str]:
    from huggingface_hub import HfApi

    with _translated(asked):
        return HfApi().list_repo_files(asked.name, repo_type="dataset", revision=asked.revision)


def _fetch(asked: DataSet, path: str) -> Path:
    from huggingface_hub import hf_hub_download

    with _translated(asked):
        return Path(hf_hub_download(asked.name, path, repo_type="dataset", revision=asked.revision))


HUGGING_FACE: Final = Hub(commit=_commit, paths=_paths, fetch=_fetch)
