"""A bucket of S3, Google Cloud Storage or Azure by obstore; foreign errors become `ArtifactsUnavailable`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from typing import Any, Final
from uuid import uuid4

from registry.errors import ArtifactsUnavailable, SettingsInvalid

SCHEMES: Final[Mapping[str, str]] = {"s3": "AWS_", "gs": "GOOGLE_", "az": "AZURE_"}
"""Scheme of a bucket's URL -> what the names of the environment variables with its credentials begin with."""
REQUEST_TIMEOUT_S: Final = 120
RETRIES: Final = 4
RETRY_TIMEOUT_S: Final = 60
_CODE: Final = re.compile(r"<Code>(\w+)</Code>")
_MESSAGE: Final = re.compile(r"<Message>([^<]*)</Message>")
_STATUS: Final = re.compile(r"status code: (\d{3} [A-Za-z ]+)")
_QUERY: Final = re.compile(r"\?[^\s\"')]+")
"""The query of an address, in which Azure's signatures are."""
_MISSING: Final = frozenset({"NoSuchBucket", "ContainerNotFound"})
_EXPIRED: Final = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"})
_WRONG: Final = frozenset(
    {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "AuthenticationFailed", "InvalidAuthenticationInfo"}
)


class Bucket:
    """The objects below one prefix of a bucket. Every method blocks, and raises `ArtifactsUnavailable`."""

    def __init__(self, url: str) -> None:
        """Connect to nothing yet; *url* is `s3://BUCKET/PREFIX`, `gs://…` or `az://…`."""
        self.url = url.rstrip("/")
        self._scheme = url.partition("://")[0]

    def read(self, key: str) -> bytes | None:
        """Return the bytes of an object; None if there is none of this key."""
        import obstore

        with self._translated():
            try:
                return bytes(obstore.get(self._store, key).bytes())
            except FileNotFoundError as exc:
                if _MISSING.intersection(_CODE.findall(str(exc))):
                    raise
                return None

    def create(self, key: str, content: bytes) -> bool:
        """Write an object unless there is one of this key, and return whether it was written."""
        import obstore
        from obstore.exceptions import AlreadyExistsError

        with self._translated():
            try:
                obstore.put(self._store, key, content, mode="create", use_multipart=False)
            except AlreadyExistsError:
                return False
        return True

    def overwrite(self, key: str, content: bytes) -> None:
        """Write an object, in place of another one of this key if there is one."""
        import obstore

        with self._translated():
            obstore.put(self._store, key, content, use_multipart=False)

    def sizes(self, prefix: str) -> dict[str, int]:
        """Return the size in bytes of every object whose key begins with *prefix*, which ends with `/`."""
        import obstore

        with self._translated():
            return {found["path"]: found["size"] for page in obstore.list(self._store, prefix) for found in page}

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; those that are not there count as removed."""
        import obstore

        if listed := list(keys):
            with self._translated():
                try:
                    obstore.delete(self._store, listed)
                except FileNotFoundError as exc:
                    # Some servers report a key that is not there, which S3's do not; then each key is removed alone.
                    if len(listed) == 1 and not _MISSING.intersection(_CODE.findall(str(exc))):
                        return
                    if len(listed) == 1:
                        raise
                    for key in listed:
                        self.delete([key])

    def check(self) -> None:
        """Return if the bucket can be read and written and refuses to write a key twice; else report what is wrong."""
        key = f"checks/{uuid4().hex}"
        self.create(key, b"first")
        try:
            refused_a_second = not self.create(key, b"second")
            unchanged = self.read(key) == b"first" and key in self.sizes("checks/")
        finally:
            self.delete([key])
        if not refused_a_second or not unchanged:
            raise ArtifactsUnavailable(
                f"the bucket {self.url} wrote the same key twice: its server ignores If-None-Match. Lorry needs "
                "conditional writes, which S3, Google Cloud Storage, Azure, SeaweedFS and recent MinIO have"
            )

    @cached_property
    def _store(self) -> Any:
        try:
            from obstore.store import from_url
        except ModuleNotFoundError as exc:
            raise SettingsInvalid(
                "settings [registry] artifacts: a bucket needs the package obstore: pip install 'lorry[buckets]'"
            ) from exc
        with self._translated():
            # Credentials come from the environment, or from the machine's or pod's own identity.
            return from_url(
                self.url,
                # HTTP is used where the endpoint's address says so, and nowhere else.
                client_options={"timeout": timedelta(seconds=REQUEST_TIMEOUT_S), "allow_http": True},
                retry_config={"max_retries": RETRIES, "retry_timeout": timedelta(seconds=RETRY_TIMEOUT_S)},
            )

    @contextmanager
    def _translated(self) -> Iterator[None]:
        from obstore.exceptions import BaseError

        try:
            yield
        # obstore raises some of Python's own: FileNotFoundError, and ValueError for a URL that it does not take.
        except (BaseError, OSError, ValueError) as exc:
            raise ArtifactsUnavailable(self._sentence(str(exc))) from exc

    def _sentence(self, text: str) -> str:
        code, variables = next(iter(_CODE.findall(text)), ""), f"{SCHEMES.get(self._scheme, '')}*"
        detail = f" ({code}: {_MESSAGE.findall(text)[0]})" if code and _MESSAGE.search(text) else ""
        if code in _MISSING:
            return f"the bucket of {self.url} does not exist{detail}: make it, or name another in [registry] artifacts"
        if code in _EXPIRED:
            return f"the credentials for {self.url} have expired{detail}: renew {variables} of this process"
        if code in _WRONG:
            return f"the credentials for {self.url} are wrong{detail}: look at {variables} of this process"
        if "PermissionDenied" in text or "Unauthenticated" in text or "status code: 403" in text:
            return (
                f"the bucket {self.url} refuses these credentials{detail or self._status(text)}: {variables} of this "
                "process must be allowed to read, write, list and delete objects there"
            )
        first = _QUERY.sub("?…", text.partition("\n")[0].partition("Debug source")[0]).strip()
        return f"the bucket {self.url} does not answer as it should: {first[:300]}"

    @staticmethod
    def _status(text: str) -> str:
        found = _STATUS.search(text)
        return f" ({found[1].strip()})" if found else ""
