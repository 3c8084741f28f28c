"""Upload a folder to a hub's repository with the hub's own client, and check what the hub has afterwards."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Protocol

from exports.bundles import file_names
from exports.errors import HubRefused
from exports.uploads.hugging_face import HuggingFace
from exports.uploads.modelscope import ModelScope
from registry.disk import sha256_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """The result of an upload, as the hub names it."""

    url: str
    revision: str
    commit: str


class Hub(Protocol):
    """A hub, through its client. Every method raises `HubRefused`."""

    def prepare(self, repository: str, revision: str | None, is_public: bool) -> None:
        """Have the repository and the branch; refuse one that is public unless that is meant."""
        ...

    def send(self, repository: str, folder: Path, revision: str | None) -> tuple[str, str]:
        """Commit the files of *folder*; return the branch and the commit."""
        ...

    def stored(self, repository: str, commit: str, revision: str) -> Mapping[str, tuple[int, str | None]]:
        """Return the files there: path -> size, and sha256 where the hub reports it."""
        ...

    def url(self, repository: str) -> str:
        """Return the page of the repository."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    hub: type[HuggingFace | ModelScope]
    library: str
    token: str
    install: str


HUBS: Final[Mapping[str, _Row]] = {
    "hf": _Row(hub=HuggingFace, library="huggingface_hub", token="HF_TOKEN", install="huggingface_hub"),  # noqa: S106
    "modelscope": _Row(
        hub=ModelScope,
        library="modelscope_hub",
        token="MODELSCOPE_API_TOKEN",  # noqa: S106 - the name of a variable
        install="lorry[data]",
    ),
}
"""Hub -> its client, the library that is needed, and the variable with the token."""


def check_hub(name: str) -> None:
    """Raise `HubRefused` unless the client is installed and the environment has a token."""
    row = HUBS[name]
    if find_spec(row.library) is None:
        raise HubRefused(f"{name}: needs the library {row.library}: pip install {row.install}")
    if not os.environ.get(row.token):
        raise HubRefused(f"{name}: set {row.token} to a token that may write; no other place is looked into")


def upload(name: str, repository: str, folder: Path, *, revision: str | None, is_public: bool) -> Upload:
    """Upload the files of *folder* in a commit, and return it once the hub lists all of them with the right bytes."""
    check_hub(name)
    row = HUBS[name]
    hub: Hub = row.hub(os.environ[row.token])
    hub.prepare(repository, revision, is_public)
    branch, commit = hub.send(repository, folder, revision)
    stored = hub.stored(repository, commit, branch)
    for path in file_names(folder):
        size, digest = stored.get(path, (-1, None))
        if size != (folder / path).stat().st_size or digest not in (None, sha256_of(folder / path)):
            raise HubRefused(f"{name}:{repository}: {path} is not there with the bytes that were sent; upload again")
    return Upload(url=hub.url(repository), revision=branch, commit=commit)
