"""Uploads to Hugging Face, by `huggingface_hub`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from exports.errors import HubRefused

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_MAIN = "main"


class HuggingFace:
    """Hugging Face, or a hub at `HF_ENDPOINT`."""

    def __init__(self, token: str) -> None:
        self._token = token

    def prepare(self, repository: str, revision: str | None, is_public: bool) -> None:
        """Have the repository and the branch; refuse one that is public unless that is meant."""
        with self._client(repository) as api:
            api.create_repo(repository, private=not is_public, exist_ok=True)
            if not is_public and api.model_info(repository).private is False:
                raise HubRefused(f"hf:{repository} is public; give --public if everybody may have the model")
            if revision is not None:
                api.create_branch(repository, branch=revision, exist_ok=True)

    def send(self, repository: str, folder: Path, revision: str | None) -> tuple[str, str]:
        """Commit the files of *folder*; return the branch and the commit."""
        with self._client(repository) as api:
            done = api.upload_folder(
                repo_id=repository, folder_path=folder, revision=revision, commit_message="Upload with Lorry"
            )
        return revision or _MAIN, done.oid

    def stored(self, repository: str, commit: str, revision: str) -> Mapping[str, tuple[int, str | None]]:
        """Return the files there: path -> size, and sha256 of those in large file storage."""
        with self._client(repository) as api:
            found = api.list_repo_tree(repository, revision=commit, recursive=True)
            files = [vars(each) for each in found if "size" in vars(each)]
        return {file["path"]: (file["size"], file["lfs"].sha256 if file["lfs"] else None) for file in files}

    def url(self, repository: str) -> str:
        """Return the page of the repository."""
        from huggingface_hub import constants

        return f"{constants.ENDPOINT}/{repository}"

    @contextmanager
    def _client(self, repository: str) -> Iterator[HfApi]:
        import httpx
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
        from huggingface_hub.utils.tqdm import disable_progress_bars

        disable_progress_bars()
        try:
            yield HfApi(token=self._token, library_name="lorry")
        except (HfHubHTTPError, HFValidationError) as exc:
            raise HubRefused(f"hf:{repository}: {_plain(exc, self._token)}") from exc
        except (httpx.HTTPError, OSError, ValueError) as exc:
            raise HubRefused(f"hf:{repository}: the upload failed: {_plain(exc, self._token)}") from exc


def _plain(exc: Exception, token: str) -> str:
    """Return the error's text in one line, never with the token."""
    return " ".join(str(exc).split()).replace(token, "...")[:500]
