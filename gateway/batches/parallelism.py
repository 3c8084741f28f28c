"""How many lines of batches may be under way in a pool: places that nobody else needs. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchShares:
    """The largest shares of a pool's places that batches use."""

    alone: float
    """While no client is there."""
    beside_clients: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLoad:
    """Count what a pool could do at once, and what it has to do for others than batches."""

    places: float
    """Requests that its engines compute at once."""
    interactive: int
    """Requests of clients that are under way."""
    is_visited: bool
    """Whether clients had requests under way just now, or a moment ago."""
    waiting: int
    """Requests that wait for a place, whoever sent them."""


def lines_allowed(load: PoolLoad, shares: BatchShares, sharers: int) -> int:
    """Return how many lines the batches of one gateway may have under way, of *sharers* gateways that run batches.

    A place beside a client's slows the client down, so there are fewer of these. No place is one that a client needs:
    while requests wait, no line begins.
    """
    if load.waiting:
        return 0
    free = max(0, int(load.places) - load.interactive)
    # The smallest engine has one place, which is free while no client needs it.
    if not load.interactive:
        free = max(1, free)
    share = shares.beside_clients if load.is_visited else shares.alone
    allowed = min(free, max(1, int(load.places * share)))
    return allowed and max(1, allowed // max(1, sharers))
