"""Artifacts in a bucket, with copies of those that this machine reads.

<kind>/<digest>/<path>.<number>   the bytes of a file in parts of 16 MiB
<kind>/<digest>.json              which files there are, written when all parts are: without it there is no artifact
<kind>/<digest>.damaged           a reader found wrong bytes: the next publication writes every part anew

Who publishes and who removes may be on different machines, so the database orders them: a publication looks for its
parts in the transaction that refers to them, under a lock that removers take alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from registry.artifacts import KINDS, Install, Referenced
from registry.errors import NotFound
from registry.stores import transfers
from registry.stores.bucket import Bucket
from registry.stores.cache import ArtifactCache
from registry.stores.content import PART_BYTES, Content, description_key
from registry.stores.row_lock import lock_alone, lock_shared
from registry.stores.staging import StagedBytes, StagingArea
from registry.transactions import Transactions

RESUMED_WITHIN_S: Final = 3600.0
"""How long the parts of a publication that failed stay, so that a further attempt at it sends only the rest."""


class BucketStore:
    """The artifacts below one prefix of a bucket."""

    def __init__(
        self,
        bucket: Bucket,
        cache: ArtifactCache,
        transactions: Transactions,
        referenced: Referenced,
        part_bytes: int = PART_BYTES,
    ) -> None:
        """Connect to nothing yet; *referenced* returns the digests that rows refer to now. Raises `StorageFull`."""
        self.bucket = bucket
        self._cache = cache
        self.part_bytes = part_bytes
        self._transactions = transactions
        self._referenced = referenced
        self._area = StagingArea(cache.root)

    @property
    def cache(self) -> ArtifactCache:
        """This machine's copies."""
        return self._cache

    @property
    def disk(self) -> Path:
        """The folder of the copies."""
        return self.cache.root

    def check(self) -> None:
        """Write, read and remove an object."""
        self.bucket.check()

    def folder(self, digest: str) -> Path:
        """Return the copy of the folder, verified, fetched where it is not here."""
        return self._here("folders", digest)

    def file(self, digest: str) -> Path:
        """Return the copy of the file, verified, fetched where it is not here."""
        return self._here("files", digest)

    def hold(self, digest: str) -> None:
        """Keep the copy as long as this process lives, or until it is released."""
        self.cache.hold(digest)

    def release(self, digest: str) -> None:
        """Take a `hold` back."""
        self.cache.release(digest)

    def has_folder(self, digest: str) -> bool:
        """Return whether the bucket has a folder with this digest."""
        return self.bucket.read(description_key("folders", digest)) is not None

    def kinds(self, digest: str) -> list[str]:
        """Return in which forms the bucket has the artifact."""
        return [kind for kind in KINDS if self.bucket.read(description_key(kind, digest)) is not None]

    def location(self, digest: str) -> str:
        """Return the address of the folder, which is no path: each machine has a copy of its own."""
        return f"{self.bucket.url}/folders/{digest}"

    @contextmanager
    def publishing(self) -> Iterator[BucketStaging]:
        """Yield a place to write bytes, which is removed afterwards with all that was not installed and committed."""
        with self._area.writing(partial(BucketStaging, self), self.recover) as staging:
            yield staging

    @contextmanager
    def discarding(self, digest: str) -> Iterator[None]:
        """Remove the artifact after the block unless a row refers to it; `recover` does so if this process dies."""
        with self.publishing() as staging:
            staging.note_installed([digest])
            yield
            self._remove_unreferenced(digest, staging.path)

    def recover(self) -> list[str]:
        """Remove what publishers of this machine left some time ago; return what they had sent and no row refers to."""
        before = self._transactions.now() - RESUMED_WITHIN_S
        return self._area.remove_dead(self._referenced, self._remove_unreferenced, before)

    def content(self, kind: str, digest: str) -> Content:
        """Return the description of an artifact. Raises `NotFound` or `ArtifactCorrupt`."""
        text = self.bucket.read(description_key(kind, digest))
        if text is None:
            raise NotFound(f"there is no artifact {self.bucket.url}/{kind}/{digest}")
        return Content.read(kind, digest, text)

    def _here(self, kind: str, digest: str) -> Path:
        def fetch(target: Path) -> None:
            transfers.download(self.bucket, self.content(kind, digest), target)

        return self.cache.get(kind, digest, lambda: self.content(kind, digest).size_bytes, fetch)

    def _remove_unreferenced(self, digest: str, _trash: Path) -> None:
        with self._transactions.write() as tx:
            # No publisher is between its look at the parts and its commit now, so the rows are the whole truth.
            lock_alone(tx)
            if digest in self._referenced():
                return
            for kind in KINDS:
                transfers.remove(self.bucket, kind, digest)
        self.cache.drop(digest)


class BucketStaging(StagedBytes):
    """Bytes on their way into a bucket."""

    def __init__(self, store: BucketStore, path: Path) -> None:
        super().__init__(path)
        self._store = store

    @contextmanager
    def committing(self) -> Iterator[Install]:
        """Send all bytes put so far, and yield the function that makes artifacts of them in the transaction."""
        bucket, staged = self._store.bucket, self.staged()
        contents = {path: Content.of(path, self._store.part_bytes) for path in staged}
        # Noted before the first part: bytes that are sent and never committed must be found by `recover`.
        self.note_installed(path.name for path in staged)
        for path, content in contents.items():
            transfers.upload(bucket, content, path)
        yield partial(_complete, bucket, contents)
        for path, content in contents.items():
            self._store.cache.adopt(path, content.size_bytes)


def _complete(bucket: Bucket, contents: dict[Path, Content], tx: sa.Connection | None) -> None:
    if tx is not None:
        lock_shared(tx)
    for path, content in contents.items():
        transfers.complete(bucket, content, path)
