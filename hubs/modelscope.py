"""ModelScope by its own client: `MODELSCOPE_ENDPOINT`, or `MODELSCOPE_DOMAIN`, is its address.

The token comes from `MODELSCOPE_API_TOKEN` alone, never from a file that the client has stored.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from hubs.errors import FileAltered, HubRefused, HubUnreachable, UnknownRepository
from hubs.repository import COMMIT, NO_SIZE, Content, Received, RemoteFile, Repository, Snapshot, check_canonical

_DEFAULT_BRANCH: Final = "master"
_AT_IMPORT: Final = {
    "TQDM_DISABLE": "1",
    "MODELSCOPE_DOWNLOAD_TOTAL_TIMEOUT": "86400",
    "MODELSCOPE_LOG_LEVEL": "WARNING",
}


def _client() -> Any:
    with _first_import():
        from modelscope_hub import HubApi
        from modelscope_hub.config import HubConfig
    domain = os.environ.get("MODELSCOPE_DOMAIN", "").strip()
    address = os.environ.get("MODELSCOPE_ENDPOINT") or domain or None
    return HubApi(HubConfig(endpoint=address, token=os.environ.get("MODELSCOPE_API_TOKEN", "")))


@contextmanager
def _first_import() -> Iterator[None]:
    """Set what the client and its library of bars read when they are imported: no bars, and a day for each file."""
    before = {name: os.environ.get(name) for name in _AT_IMPORT}
    os.environ.update({name: before[name] or value for name, value in _AT_IMPORT.items()})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]


@contextmanager
def _asked(repository: Repository, revision: str | None) -> Iterator[Any]:
    name = repository.name
    try:
        client = _client()
        from modelscope_hub import errors
    except ImportError as exc:
        raise HubRefused(f"{name}: ModelScope needs the extra `data`: pip install 'lorry[data]'") from exc
    from requests.exceptions import RequestException

    try:
        yield client
    except errors.NotExistError as exc:
        what = "model" if repository.content is Content.MODEL else "data set"
        raise UnknownRepository(
            f"{name}: ModelScope has no such {what} with a revision {revision or _DEFAULT_BRANCH!r}, or "
            "MODELSCOPE_API_TOKEN does not open it"
        ) from exc
    except (errors.AuthenticationError, errors.PermissionDeniedError) as exc:
        is_set = bool(os.environ.get("MODELSCOPE_API_TOKEN"))
        there = "the account of MODELSCOPE_API_TOKEN has not been let in"
        there = there if is_set else "MODELSCOPE_API_TOKEN is not set"
        raise HubRefused(
            f"{name}: ModelScope gives it to those with access only, and {there}: ask for access on its page "
            f"{client.legacy.endpoint}/models/{name}, then set MODELSCOPE_API_TOKEN to a token of that account"
        ) from exc
    except errors.FileIntegrityError as exc:
        raise FileAltered(f"{name}: {_first_line(exc)}") from exc
    except (errors.HubError, RequestException) as exc:
        raise HubUnreachable(f"{name}: {client.legacy.endpoint} does not answer: {_first_line(exc)}") from exc


def _first_line(exc: Exception) -> str:
    first = (str(exc).strip() or type(exc).__name__).split("\n", 1)[0]
    return first.partition(": HTTPConnectionPool")[0].partition(": HTTPSConnectionPool")[0]


class ModelScope:
    """`hubs.repository.Hub`."""

    title = "ModelScope"

    def snapshot(self, repository: Repository, revision: str | None) -> Snapshot:
        """Return the repository at the commit that *revision* names.

        Of a data set the hub names no commit, so it keeps the revision as it is, and its files go by their digests.
        """
        asked = revision or _DEFAULT_BRANCH
        with _asked(repository, asked) as client:
            is_model = repository.content is Content.MODEL
            commit = _commit(client, repository, asked) if is_model else asked
            entries = client.legacy.list_repo_files(repository.name, str(repository.content), commit)
            facts = client.legacy.get_repo_info(repository.name, "model") if is_model else {}
        if facts.get("Path") and facts.get("Name"):
            check_canonical(repository.name, f"{facts['Path']}/{facts['Name']}")
        files = [_remote_file(each) for each in entries if each.get("Type") != "tree"]
        return Snapshot(commit=commit, files=files, licence=_licence(facts))

    def fetch(self, repository: Repository, commit: str, file: RemoteFile, folder: Path, received: Received) -> None:
        """Write the file below *folder*; the client keeps what it has of it beside it and goes on from there."""
        with _asked(repository, commit) as client:
            target = folder / file.path
            begun = target.with_suffix(target.suffix + ".incomplete")
            here = begun.stat().st_size if begun.is_file() else 0
            client.downloader.download_file(
                repository.name,
                str(repository.content),
                file.path,
                revision=commit,
                local_dir=folder,
                cache_dir=folder / ".client",
                expected_sha256=file.sha256,
                file_size=file.size_bytes,
                progress_callbacks=[_callback_of(received, here)],
            )

    def cached(self, repository: Repository, commit: str, path: str) -> Path:
        """Return where the file is in the client's cache."""
        with _asked(repository, commit) as client:
            return Path(client.download_file(repository.name, str(repository.content), path, revision=commit))

    def similar(self, name: str) -> Sequence[str]:
        """Return names of models that are like *name*."""
        try:
            with _asked(Repository(content=Content.MODEL, name=name), None) as client:
                owner, _, title = name.partition("/")
                own = client.list_repos("model", owner=owner, page_size=50).items
                alike = client.list_repos("model", search=title, page_size=20).items
                return [str(each.repo_id) for each in (*own, *alike)]
        except (HubRefused, HubUnreachable):
            return []


def _commit(client: Any, repository: Repository, revision: str) -> str:
    """Return the commit of a model's revision, which the list of files names besides its files.

    The hub leaves the whole id out at times and gives its beginning only; the newest files then have the whole one.
    """
    if COMMIT.fullmatch(revision):
        return revision
    # The client's own method gives the files only.
    answer = client.legacy._json_data(
        client.legacy._request(
            "GET", f"models/{repository.name}/repo/files", params={"Revision": revision, "Recursive": "True"}
        )
    )
    latest = answer.get("LatestCommitter") or {} if isinstance(answer, dict) else {}
    whole, beginning = str(latest.get("Id") or ""), str(latest.get("ShortId") or "")
    if COMMIT.fullmatch(whole):
        return whole
    files = answer.get("Files") or [] if isinstance(answer, dict) else []
    commits = {str(each.get("Revision")) for each in files}
    found = [each for each in commits if beginning and each.startswith(beginning) and COMMIT.fullmatch(each)]
    if len(found) != 1:
        raise HubRefused(
            f"{repository.name}: ModelScope names no commit of {revision!r}; give one (40 digits, from the model's "
            "history of files) with --revision"
        )
    return found[0]


def _remote_file(entry: Mapping[str, Any]) -> RemoteFile:
    sha256 = entry.get("Sha256") or None
    return RemoteFile(
        path=str(entry["Path"]), size_bytes=NO_SIZE if entry.get("Size") is None else int(entry["Size"]), sha256=sha256
    )


def _licence(facts: Mapping[str, Any]) -> str:
    found = facts.get("License")
    if isinstance(found, list):
        found = found[0] if found else None
    return str(found or "").lower()


def _callback_of(received: Received, here: int) -> Any:
    """Return a class by which the client passes on what comes; it begins with the bytes that are here already."""
    from modelscope_hub import ProgressCallback

    class Callback(ProgressCallback):  # type: ignore[misc, unused-ignore]  # a class of an untyped library
        """Passes the number of bytes on."""

        known = here

        def update(self, size: int) -> None:
            again = min(self.known, max(size, 0))
            self.known -= again
            received(size - again)

        def end(self) -> None:
            """End."""

    return Callback
