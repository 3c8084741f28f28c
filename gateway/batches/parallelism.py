"""How many lines of batches may be under way in a pool: places that nobody else needs. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLoad:
    """What a pool could do at once, and what it has to do for others than batches."""

    places: float
    """Requests that its engines compute at once."""
    interactive: int
    """Requests of clients that are under way."""
    waiting: int
    """Requests that wait for a place, whoever sent them."""


def lines_allowed(load: PoolLoad, share: float, sharers: int) -> int:
    """Return how many lines the batches of one gateway may have under way, of *sharers* gateways that run batches.

    Batches take at most *share* of the places, and never one that a client needs: while requests wait, none begins.
    """
    if load.waiting:
        return 0
    free = max(0, int(load.places) - load.interactive)
    # The smallest engine has one place, which is free while no client needs it.
    if not load.interactive:
        free = max(1, free)
    allowed = min(free, max(1, int(load.places * share)))
    return allowed and max(1, allowed // max(1, sharers))
