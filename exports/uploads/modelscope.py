"""Uploads to ModelScope, by `modelscope_hub`."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exports.errors import HubRefused

if TYPE_CHECKING:
    from modelscope_hub.api import HubApi

_MASTER = "master"
_KIND = "model"


class ModelScope:
    """ModelScope, or a hub at `MODELSCOPE_ENDPOINT`."""

    def __init__(self, token: str) -> None:
        self._token = token

    def prepare(self, repository: str, revision: str | None, is_public: bool) -> None:
        """Have the repository; refuse one that is public unless that is meant. A branch is made by its first commit."""
        from modelscope_hub.constants import Visibility
        from modelscope_hub.errors import AlreadyExistsError

        with self._client(repository) as api:
            try:
                api.create_repo(repository, _KIND, visibility="public" if is_public else "private")
            except AlreadyExistsError:
                if not is_public and api.get_repo(repository, _KIND).visibility != Visibility.PRIVATE:
                    raise HubRefused(
                        f"modelscope:{repository} is public; give --public if everybody may have the model"
                    ) from None

    def send(self, repository: str, folder: Path, revision: str | None) -> tuple[str, str]:
        """Commit the files of *folder*; return the branch and the commit."""
        branch = revision or _MASTER
        with self._client(repository) as api:
            api.upload_folder(
                repository,
                _KIND,
                folder,
                revision=branch,
                commit_message="Upload with Lorry",
                use_cache=False,
                disable_tqdm=True,
            )
            entries = api.legacy.list_repo_files(repository, _KIND, revision=branch)
        if not entries:
            raise HubRefused(f"modelscope:{repository}: the upload left no files on {branch}")
        # The client's answers name no commit: each file has that of its last change.
        return branch, str(max(entries, key=lambda entry: entry.get("CommittedDate", 0)).get("Revision", ""))

    def stored(self, repository: str, commit: str, revision: str) -> Mapping[str, tuple[int, str | None]]:
        """Return the files there: path -> size and sha256."""
        with self._client(repository) as api:
            entries: list[dict[str, Any]] = api.legacy.list_repo_files(repository, _KIND, revision=revision)
        files = (entry for entry in entries if entry.get("Type") != "tree")
        return {str(file["Path"]): (int(file["Size"]), file.get("Sha256") or None) for file in files}

    def url(self, repository: str) -> str:
        """Return the page of the repository."""
        from modelscope_hub.config import get_default_config

        return f"{get_default_config().endpoint.rstrip('/')}/models/{repository}"

    @contextmanager
    def _client(self, repository: str) -> Iterator[HubApi]:
        from modelscope_hub.api import HubApi
        from modelscope_hub.errors import HubError

        logging.getLogger("modelscope_hub").setLevel(logging.WARNING)  # it has a handler of its own
        try:
            yield HubApi(token=self._token)
        except HubError as exc:
            text = " ".join(str(exc).split()).replace(self._token, "...")
            raise HubRefused(f"modelscope:{repository}: {text[:500]}") from exc
        except OSError as exc:
            raise HubRefused(f"modelscope:{repository}: the upload failed: {exc}") from exc
