"""Check before a job starts that some replica could serve its result."""

from __future__ import annotations

from collections.abc import Iterable

from registry.errors import AdapterRejected
from registry.publishing.normalize import legal_rank
from registry.states import ReplicaState
from registry.types import Base, Replica


def check_takes_adapters(base: Base, replicas: Iterable[Replica]) -> None:
    """Raise `AdapterRejected` if *base* has replicas and none of them takes adapters."""
    present = _present(base, replicas)
    if present and not any(replica.capacity for replica in present if replica.adapter_base == base.name):
        others = {replica.adapters_of for replica in present if replica.adapter_base != base.name}
        why = f"serves_adapters_of = {min(others)!r}" if others else "max_adapters = 0"
        raise AdapterRejected(f"{base.name} is served without adapters of its own: every pool of it has {why}")


def check_pools(rank: int, base: Base, replicas: Iterable[Replica]) -> None:
    """Raise `AdapterRejected` if every replica of *base* that reported a limit takes only ranks below the result's.

    A published adapter has the next legal rank. Nothing is refused while no replica has reported.
    """
    published = legal_rank(rank)
    present = _present(base, replicas)
    takers = [replica for replica in present if replica.adapter_base == base.name]
    limits = {replica.id: replica.max_rank for replica in takers if replica.max_rank}
    if limits and max(limits.values()) < published:
        shown = ", ".join(f"{replica} up to {limit}" for replica, limit in sorted(limits.items()))
        padded = "" if published == rank else f" is published as rank {published}, which"
        raise AdapterRejected(f"rank {rank}{padded} is above what any replica of {base.name} takes: {shown}")


def _present(base: Base, replicas: Iterable[Replica]) -> list[Replica]:
    named = [one for one in replicas if base.name in (one.base, one.adapters_of)]
    return [one for one in named if one.state is not ReplicaState.GONE]
