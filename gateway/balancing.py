"""Which replica answers. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from gateway.routing import Endpoint


def choose_replica(
    endpoints: Sequence[Endpoint], in_flight: Mapping[str, int], ejected: Collection[str]
) -> Endpoint | None:
    """The endpoint with the fewest of our requests in flight, ejected ones (replica ids) only when no other is left.

    Ties go to the smallest replica id, so that the choice is a function of its arguments. None without endpoints.
    """
    preferred = [endpoint for endpoint in endpoints if endpoint.replica not in ejected] or endpoints
    return min(preferred, key=lambda endpoint: (in_flight.get(endpoint.replica, 0), endpoint.replica), default=None)
