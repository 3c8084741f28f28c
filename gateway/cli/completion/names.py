"""Names that complete a half-typed word, asked of the gateway; none where no gateway answers at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gateway.cli.errors import CommandFailed

PATIENCE_S: Final = 1.0
"""How long a shell waits for the gateway's names."""
_MOST_JOBS: Final = 100


def adapters(incomplete: str) -> list[str]:
    """Return the adapters' names."""
    return _matching(incomplete, lambda: _models("adapter"))


def revisions(incomplete: str) -> list[str]:
    """Return the names of revisions, `support@7`."""
    return _matching(incomplete, lambda: _models("revision"))


def adapters_and_revisions(incomplete: str) -> list[str]:
    """Return adapters and, once an `@` is typed, the revisions."""
    return revisions(incomplete) if "@" in incomplete else adapters(incomplete)


def bases(incomplete: str) -> list[str]:
    """Return the names of base models."""
    return _matching(incomplete, lambda: _models("base"))


def exportable(incomplete: str) -> list[str]:
    """Return the names of base models, checkpoints and revisions."""
    return _matching(incomplete, lambda: _models("base", "revision"))


def models(incomplete: str) -> list[str]:
    """Return every name that a request may carry."""
    return _matching(incomplete, lambda: _models("base", "adapter", "revision", "alias", "checkpoint"))


def jobs(incomplete: str) -> list[str]:
    """Return the ids of the newest jobs."""
    return _matching(incomplete, _jobs)


def batches(incomplete: str) -> list[str]:
    """Return the ids of the newest batches."""
    return _matching(incomplete, _batches)


def replicas(incomplete: str) -> list[str]:
    """Return the ids of the inference servers."""
    return _matching(incomplete, _replicas)


def keys(incomplete: str) -> list[str]:
    """Return the names of the valid keys."""
    return _matching(incomplete, _keys)


def _matching(incomplete: str, read: Callable[[], list[str]]) -> list[str]:
    try:
        return [name for name in read() if name.startswith(incomplete)]
    except CommandFailed:
        return []


def _models(*kinds: str) -> list[str]:
    from gateway.cli.client import Client
    from gateway.objects.lists import ObjectList
    from gateway.objects.models import ModelObject

    with Client(timeout_s=PATIENCE_S) as client:
        found = client.get("/v1/models", ObjectList[ModelObject]).data
    return [model.id for model in found if model.lorry.kind in kinds]


def _batches() -> list[str]:
    from gateway.cli.client import Client
    from gateway.objects.batches import BatchObject
    from gateway.objects.lists import ObjectPage

    with Client(timeout_s=PATIENCE_S) as client:
        return [each.id for each in client.get("/v1/batches", ObjectPage[BatchObject], limit=_MOST_JOBS).data]


def _jobs() -> list[str]:
    from gateway.cli.client import Client
    from gateway.objects.jobs import AnyJob
    from gateway.objects.lists import ObjectList

    with Client(timeout_s=PATIENCE_S) as client:
        return [job.root.id for job in client.get("/admin/jobs", ObjectList[AnyJob], limit=_MOST_JOBS).data]


def _replicas() -> list[str]:
    from gateway.cli.client import Client
    from gateway.objects.lists import ObjectList
    from gateway.objects.operations import ReplicaObject

    with Client(timeout_s=PATIENCE_S) as client:
        return [replica.id for replica in client.get("/admin/replicas", ObjectList[ReplicaObject]).data]


def _keys() -> list[str]:
    from gateway.cli.client import Client
    from gateway.objects.keys import KeyObject
    from gateway.objects.lists import ObjectList

    with Client(timeout_s=PATIENCE_S) as client:
        found = client.get("/admin/keys", ObjectList[KeyObject]).data
    return [key.name for key in found if key.revoked_at is None]
