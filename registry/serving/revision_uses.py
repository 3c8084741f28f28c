"""The demand for revisions as gateways count it, which placement decides on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Final

import sqlalchemy as sa

from registry.serving.serving_tables import revision_uses
from registry.transactions import Transactions, upsert
from registry.types import Use

TRAFFIC_WINDOW_S: Final = 300.0
"""How long the requests that a gateway reported count as traffic."""
AWAITED_S: Final = 5.0
"""How long a revision counts as awaited after the last request that found it in no replica.

So long it keeps its place before others, time enough for the requests that waited to begin.
"""
USES_KEPT_S: Final = 7 * 86400.0
"""How long the last use of a revision is stored."""


_CLOCKS_DIFFER_S: Final = 60.0
"""How far the clocks of gateways may be behind ours until a use of theirs is overlooked."""


class UseReader:
    """Reads the demand over all gateways, and of a week's uses only those since the last reading."""

    def __init__(self) -> None:
        self._kept: tuple[float, dict[str, Use]] = (-math.inf, {})
        """When it was read last, and each use that was found, without its traffic; by served name, in order."""

    def read(self, tx: sa.Connection, now: float) -> list[Use]:
        """Return the demand over all gateways, ordered by served name."""
        read_at, kept = self._kept
        since = max(min(read_at, now) - TRAFFIC_WINDOW_S - _CLOCKS_DIFFER_S, now - USES_KEPT_S)
        found = {use.served_name: use for use in _uses_since(tx, since, now)}
        last = {name: _faded(use, kept.get(name)) for name, use in found.items()}
        merged = {name: use for name, use in {**kept, **last}.items() if use.used_at >= now - USES_KEPT_S}
        if last.keys() - kept.keys():
            merged = dict(sorted(merged.items()))
        # Replaced as a whole, as several threads may read at a time.
        self._kept = (now, merged)
        return [found.get(name, use) for name, use in merged.items()]


def _faded(use: Use, before: Use | None) -> Use:
    """Return the use as it counts once its traffic is over."""
    if before is not None and before.used_at == use.used_at:
        return before
    return Use(served_name=use.served_name, used_at=use.used_at, in_flight=0.0)


def _uses_since(tx: sa.Connection, since: float, now: float) -> Iterator[Use]:
    table = revision_uses
    # A gateway that died leaves its last count, which must not pass for traffic for ever.
    fresh = sa.case((table.c.used_at >= now - TRAFFIC_WINDOW_S, table.c.in_flight), else_=0)
    awaited = sa.case((table.c.awaited_until >= now, table.c.awaited_since), else_=None)
    summed = sa.select(
        table.c.served_name,
        sa.func.max(table.c.used_at).label("used_at"),
        sa.func.sum(fresh).label("in_flight"),
        sa.func.min(awaited).label("awaited_since"),
    )
    recent = summed.where(table.c.used_at >= since).group_by(table.c.served_name)
    for name, used_at, in_flight, awaited_since in tx.execute(recent):
        yield Use(served_name=name, used_at=used_at, in_flight=float(in_flight), awaited_since=awaited_since)


class UseStore:
    """Stores one row for each revision and gateway, which each report overwrites."""

    def __init__(self, transactions: Transactions) -> None:
        self._tx = transactions

    def record(self, gateway: str, in_flight: Mapping[str, float]) -> None:
        """Store that *gateway* has just served these names, with the average of each one's requests at a time."""
        with self._tx.write() as tx:
            now = self._tx.now()
            rows = [
                {"served_name": served_name, "gateway": gateway, "used_at": now, "in_flight": count}
                for served_name, count in sorted(in_flight.items())
            ]
            # Use alone makes nobody load anything: it decides what makes room, at the next whole reading.
            upsert(tx, revision_uses, ("served_name", "gateway"), *rows, is_counted=False)

    def await_revision(self, gateway: str, served_name: str, in_flight: float) -> None:
        """Store that requests at *gateway* wait for a revision that no replica has; the first such call counts."""
        table = revision_uses
        own = sa.and_(table.c.served_name == served_name, table.c.gateway == gateway)
        with self._tx.write() as tx:
            now = self._tx.now()
            before = tx.execute(
                sa.select(table.c.awaited_since).where(own, table.c.awaited_until >= now)
            ).scalar_one_or_none()
            row = {
                "served_name": served_name,
                "gateway": gateway,
                "used_at": now,
                "in_flight": in_flight,
                "awaited_since": now if before is None else before,
                "awaited_until": now + AWAITED_S,
            }
            upsert(tx, table, ("served_name", "gateway"), row)

    def forget_old(self) -> None:
        """Delete uses of more than a week ago, including those of gateways that are long gone."""
        old = revision_uses.c.used_at < self._tx.now() - USES_KEPT_S
        with self._tx.read() as tx:
            found = tx.execute(sa.select(sa.literal(1)).where(old).limit(1)).first()
        if found is not None:
            with self._tx.write() as tx:
                tx.execute(sa.delete(revision_uses).where(old))
