"""Artifacts on their way to a bucket and back, several parts at a time, without those that are there already."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from registry.disk import flush_to_disk, sha256_of
from registry.errors import ArtifactCorrupt
from registry.stores.bucket import Bucket
from registry.stores.content import Content, Part, damage_key, parts_prefix

AT_A_TIME: Final = 8
"""Parts of one artifact under way at a time; each takes its bytes in memory."""
_ARRIVED: Final = "arrived"
"""The file with the keys of the parts that have arrived."""

Item = TypeVar("Item")


def upload(bucket: Bucket, content: Content, staged: Path) -> None:
    """Write every part of the artifact at *staged* that the bucket does not have with the same size."""
    damaged = bucket.read(damage_key(content.kind, content.digest)) is not None
    there = {} if damaged else bucket.sizes(parts_prefix(content.kind, content.digest))
    missing = [part for part in content.parts() if there.get(part.key) != part.end - part.start]

    def send(part: Part) -> None:
        with content.place(part.path, staged).open("rb") as file:
            file.seek(part.start)
            body = file.read(part.end - part.start)
        if damaged or part.key in there:  # there with another size: not what a publisher wrote
            bucket.overwrite(part.key, body)
        else:
            bucket.create(part.key, body)  # another publisher of the same bytes may have been quicker

    _at_once(send, missing)
    if damaged:
        bucket.delete([damage_key(content.kind, content.digest)])


def complete(bucket: Bucket, content: Content, staged: Path) -> None:
    """Write the description, once all parts are there: a remover may have taken some since `upload`."""
    if bucket.read(content.key) is None:
        upload(bucket, content, staged)
        bucket.create(content.key, content.as_json())


def remove(bucket: Bucket, kind: str, digest: str) -> None:
    """Remove an artifact, its description first, so that nobody begins to read what is going."""
    bucket.delete([f"{kind}/{digest}.json"])
    bucket.delete([damage_key(kind, digest), *bucket.sizes(parts_prefix(kind, digest))])


def download(bucket: Bucket, content: Content, target: Path) -> None:
    """Write the artifact to *target*, verified; what has arrived there before is not asked for again.

    Raises `ArtifactCorrupt` for bytes that are wrong twice, and marks them: the next publication replaces them.
    """
    for attempt in range(2):
        _fetch_parts(bucket, content, target)
        wrong = [file.path for file in content.files if sha256_of(content.place(file.path, target)) != file.sha256]
        if not wrong:
            _seal(content, target)
            return
        _forget(target)
        if attempt:
            bucket.create(damage_key(content.kind, content.digest), b"")
            place = f"{bucket.url}/{content.kind}/{content.digest}"
            raise ArtifactCorrupt(f"the bytes of {wrong[0]} in {place} do not match their digest; publish them again")


def _fetch_parts(bucket: Bucket, content: Content, target: Path) -> None:
    arrived = target.with_name(_ARRIVED)
    if not target.exists():
        arrived.unlink(missing_ok=True)
    there = set(arrived.read_text().splitlines()) if arrived.exists() else set()
    if content.kind == "folders":
        target.mkdir(exist_ok=True)
    for file in content.files:
        place = content.place(file.path, target)
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("ab") as opened:
            opened.truncate(file.size_bytes)
    with arrived.open("a") as note:

        def fetch(part: Part) -> None:
            body = bucket.read(part.key)
            if body is None or len(body) != part.end - part.start:
                bucket.create(damage_key(content.kind, content.digest), b"")
                found = "is gone" if body is None else f"has {len(body)} bytes, not {part.end - part.start}"
                raise ArtifactCorrupt(
                    f"the object {bucket.url}/{part.key} {found}; publish or upload the artifact again"
                )
            with content.place(part.path, target).open("r+b") as file:
                file.seek(part.start)
                file.write(body)
            note.write(f"{part.key}\n")
            note.flush()

        _at_once(fetch, [part for part in content.parts() if part.key not in there])


def _seal(content: Content, target: Path) -> None:
    target.with_name(_ARRIVED).unlink(missing_ok=True)
    for file in content.files:
        place = content.place(file.path, target)
        flush_to_disk(place)
        os.chmod(place, 0o444)  # as of the folder store: the digest in the name stands for these bytes for ever


def _forget(target: Path) -> None:
    target.with_name(_ARRIVED).unlink(missing_ok=True)
    if target.is_dir():
        shutil.rmtree(target)
    else:
        target.unlink()


def _at_once(act: Callable[[Item], None], items: Iterable[Item]) -> None:
    """Call *act* for each, several at a time; raise the first error, after which none begins."""
    with ThreadPoolExecutor(AT_A_TIME, thread_name_prefix="artifact-part") as pool:
        waiting = [pool.submit(act, item) for item in items]
        try:
            for each in waiting:
                each.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
