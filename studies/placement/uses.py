"""The demand for revisions as the registry adds it up, kept in memory for simulated time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from registry.serving.revision_uses import AWAITED_S, TRAFFIC_WINDOW_S
from registry.types import Use


@dataclass(slots=True)
class _Row:
    used_at: float
    in_flight: float
    awaited_since: float = 0.0
    awaited_until: float = -1.0


class UsesInMemory:
    """The same sums as `registry.serving.revision_uses.UseReader` reads, without a database."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[int, _Row]] = {}

    def record(self, gateway: int, in_flight: Mapping[str, float], now: float) -> None:
        """Store what a gateway reports."""
        for name, count in in_flight.items():
            row = self._rows.setdefault(name, {}).setdefault(gateway, _Row(now, count))
            row.used_at, row.in_flight = now, count

    def await_revision(self, gateway: int, name: str, in_flight: float, now: float) -> None:
        """Store that requests wait for a revision."""
        self.record(gateway, {name: in_flight}, now)
        row = self._rows[name][gateway]
        if row.awaited_until < now:
            row.awaited_since = now
        row.awaited_until = now + AWAITED_S

    def read(self, now: float) -> tuple[Use, ...]:
        """Return the demand over all gateways, ordered by served name."""
        return tuple(_use(name, list(rows.values()), now) for name, rows in sorted(self._rows.items()))


def _use(name: str, rows: list[_Row], now: float) -> Use:
    fresh = [row.in_flight for row in rows if row.used_at >= now - TRAFFIC_WINDOW_S]
    awaited = [row.awaited_since for row in rows if row.awaited_until >= now]
    last = max(row.used_at for row in rows)
    return Use(served_name=name, used_at=last, in_flight=sum(fresh), awaited_since=min(awaited, default=None))
