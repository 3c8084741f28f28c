"""Hugging Face by its own client: `HF_ENDPOINT` is its address, the token comes from `HF_TOKEN` alone.

The client's whole download keeps nothing of a file that was cut off by the end of its process. Files of models are
therefore fetched by its `http_get`, into a file that stays.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

from hubs.errors import HubRefused, HubUnreachable, UnknownRepository
from hubs.repository import NO_SIZE, Content, Received, RemoteFile, Repository, Snapshot, check_canonical

PART: Final = ".part"
"""Ending of a file that is not whole yet."""
_MOST_BYTES: Final = 50_000_000_000
"""Larger files are not served over plain HTTP."""


def _token() -> str | bool:
    return os.environ.get("HF_TOKEN") or False


def _address() -> str:
    from huggingface_hub.constants import ENDPOINT

    return (os.environ.get("HF_ENDPOINT") or str(ENDPOINT)).rstrip("/")


def _api() -> Any:
    from huggingface_hub import HfApi

    return HfApi(endpoint=_address(), token=_token())


@contextmanager
def _translated(repository: Repository, revision: str | None) -> Iterator[None]:
    from httpx2 import HTTPError
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    name = repository.name
    try:
        yield
    except GatedRepoError as exc:
        raise HubRefused(_gated(name)) from exc
    except RepositoryNotFoundError as exc:
        what = "model" if repository.content is Content.MODEL else "data set"
        raise UnknownRepository(f"{name}: there is no such {what}, or HF_TOKEN does not open it") from exc
    except RevisionNotFoundError as exc:
        raise HubRefused(f"{name}: has no revision {revision!r}") from exc
    except OfflineModeIsEnabled as exc:
        raise HubUnreachable(f"{name}: HF_HUB_OFFLINE is set, so that no hub is asked; unset it") from exc
    except HFValidationError as exc:
        raise HubRefused(f"{name!r} is not the name of a repository; give OWNER/NAME") from exc
    except HfHubHTTPError as exc:
        raise _refusal(name, exc.response.status_code) from exc
    except (HTTPError, LocalEntryNotFoundError) as exc:
        raise HubUnreachable(f"{name}: {_address()} does not answer: {_first_line(exc)}") from exc


def _refusal(name: str, status: int) -> HubRefused | HubUnreachable:
    if status == 401:
        return HubRefused(f"{name}: HF_TOKEN is not valid at {_address()}; make a new one there and set it")
    if status == 403:
        return HubRefused(f"{name}: HF_TOKEN may not read it; give the token that right at {_address()}")
    return HubUnreachable(f"{name}: {_address()} answered {status}; try again later")


def _gated(name: str) -> str:
    there = "the account of HF_TOKEN has not been let in" if _token() else "HF_TOKEN is not set"
    return (
        f"{name}: is gated, and {there}: accept its conditions at {_address()}/{name}, then set HF_TOKEN to a token "
        "of that account"
    )


def _first_line(exc: Exception) -> str:
    return str(exc).strip().split("\n", 1)[0]


class HuggingFace:
    """`hubs.repository.Hub`."""

    title = "Hugging Face"

    def snapshot(self, repository: Repository, revision: str | None) -> Snapshot:
        """Return the repository at the commit that *revision* names."""
        with _translated(repository, revision):
            api = _api()
            asked = api.model_info if repository.content is Content.MODEL else api.dataset_info
            found = asked(repository.name, revision=revision, files_metadata=True)
        if repository.content is Content.MODEL:
            check_canonical(repository.name, found.id)
        if not found.sha:
            raise HubRefused(f"{repository.name}: the hub names no commit of {revision!r}")
        return Snapshot(
            commit=found.sha,
            files=[_remote_file(each) for each in found.siblings or ()],
            licence=_licence(found.card_data, found.tags or ()),
        )

    def fetch(self, repository: Repository, commit: str, file: RemoteFile, folder: Path, received: Received) -> None:
        """Write the file below *folder*."""
        from huggingface_hub import hf_hub_url
        from huggingface_hub.file_download import http_get

        if file.size_bytes > _MOST_BYTES:
            raise HubRefused(
                f"{repository.name}: {file.path} has {file.size_bytes:,} bytes, and Hugging Face serves no file above "
                "50 GB over plain HTTP; fetch the folder with the program `hf` and give it with --model"
            )
        target = folder / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(target.name + PART)
        if part.is_file() and part.stat().st_size > file.size_bytes:
            part.unlink()
        url = hf_hub_url(
            repository.name, file.path, repo_type=str(repository.content), revision=commit, endpoint=_address()
        )
        # Compressed bytes could not be continued where they ended.
        headers = {**_headers(), "accept-encoding": "identity"}
        with _translated(repository, commit), part.open("ab") as sink:
            http_get(
                url,
                sink,
                resume_size=sink.tell(),
                headers=headers,
                expected_size=file.size_bytes,
                tqdm_class=_bar_of(received),
            )
        part.replace(target)

    def cached(self, repository: Repository, commit: str, path: str) -> Path:
        """Return where the file is in the client's cache."""
        from huggingface_hub import hf_hub_download

        with _translated(repository, commit):
            found = hf_hub_download(
                repository.name,
                path,
                repo_type=str(repository.content),
                revision=commit,
                token=_token(),
                endpoint=_address(),
            )
        return Path(found)

    def similar(self, name: str) -> Sequence[str]:
        """Return names of models that are like *name*."""
        try:
            with _translated(Repository(content=Content.MODEL, name=name), None):
                api, (owner, _, title) = _api(), name.partition("/")
                found = [*api.list_models(author=owner, limit=100), *api.list_models(search=title, limit=20)]
                return [each.id for each in found]
        except (HubRefused, HubUnreachable):
            return []


def _headers() -> dict[str, str]:
    """Return the client's headers, with the token where there is one."""
    from huggingface_hub.utils._headers import build_hf_headers

    return dict(build_hf_headers(token=_token()))


def _remote_file(sibling: Any) -> RemoteFile:
    lfs = sibling.lfs
    size = lfs.size if lfs else sibling.size
    return RemoteFile(
        path=sibling.rfilename,
        size_bytes=NO_SIZE if size is None else size,
        sha256=lfs.sha256 if lfs else None,
        git_sha1=None if lfs else sibling.blob_id,
    )


def _licence(card: Any, tags: Sequence[str]) -> str:
    """Return the licence of the card (`license_name` where that is `other`), else of the tags."""
    facts = card.to_dict() if card is not None else {}
    found = facts.get("license")
    if found == "other" and facts.get("license_name"):
        found = facts["license_name"]
    if isinstance(found, list):
        found = found[0] if found else None
    tagged = next((tag.removeprefix("license:") for tag in tags if tag.startswith("license:")), "")
    return str(found or tagged).lower()


def _bar_of(received: Received) -> Any:
    class Bar:
        """The part of a progress bar that the client uses; draws nothing."""

        def __init__(self, **_: Any) -> None:
            """Take what the client reports of the file."""

        def update(self, count: int) -> None:
            """Pass the number of bytes on."""
            received(count)

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            """End."""

    return Bar
