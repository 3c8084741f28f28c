"""Folders of artifacts that nothing refers to any more. Reads no weights, so a resting worker loads no numpy."""

from __future__ import annotations

from registry.database import Registry
from registry.jobs.read_by_jobs import folders_of_ended, folders_read


def discard_checkpoints(registry: Registry) -> list[str]:
    """Remove the bytes of retired checkpoints that no replica has and no job reads; return their served names."""
    with registry.transactions.read() as tx:
        read = folders_read(tx)
    return registry.checkpoints.discard_retired(registry.artifacts, registry.replicas.list(), read)


def discard_uploads(registry: Registry, gone: set[str] | None = None) -> list[str]:
    """Remove the uploads whose jobs have all ended and that nothing else refers to; return their digests.

    Those in *gone* are not looked for, as each look costs a request to a bucket; what is not there is added.
    """
    with registry.transactions.read() as tx:
        digests = folders_of_ended(tx)
    gone = set() if gone is None else gone
    unreferenced = sorted(digests - gone - registry.referenced_artifacts())
    unused = [digest for digest in unreferenced if registry.artifacts.has_folder(digest)]
    removed = []
    gone.update(set(unreferenced) - set(unused))
    for digest in unused:
        # No row has to go: a job that has ended does not count as a reference, so `discarding` looks for others.
        with registry.artifacts.discarding(digest):
            pass
        if not registry.artifacts.has_folder(digest):
            removed.append(digest)
    return removed
