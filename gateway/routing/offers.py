"""Which replicas of a name offer a path, and what is said where none does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gateway.errors import EndpointNotOffered
from gateway.routing.routing import Endpoint, RouteTable

_MOST_KEPT: Final = 10_000


class Offers:
    """Answers from memory while a name's endpoints are the same object, so that a request costs a look-up."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], tuple[Sequence[Endpoint], Sequence[Endpoint]]] = {}

    def of(self, endpoints: Sequence[Endpoint], served_name: str, path: str) -> Sequence[Endpoint]:
        """Those of *served_name*'s *endpoints* that answer *path* by it; the very same object where all do."""
        kept = self._kept.get((served_name, path))
        if kept is not None and kept[0] is endpoints:
            return kept[1]
        offering = tuple(endpoint for endpoint in endpoints if endpoint.offers(served_name, path))
        found = endpoints if len(offering) == len(endpoints) else offering
        if len(self._kept) >= _MOST_KEPT:
            self._kept.clear()
        self._kept[served_name, path] = (endpoints, found)
        return found


def not_offered(table: RouteTable, served_name: str, path: str) -> EndpointNotOffered:
    """The error for a path that no replica of *served_name* offers; it says which pools offer it, and for what."""
    offering = sorted(
        {
            f"{endpoint.pool or endpoint.replica} ({endpoint.base})"
            for endpoint in table.endpoints
            if endpoint.offers(endpoint.base, path)
        }
    )
    where = f"Pools that do: {', '.join(offering)}." if offering else "No pool here does."
    is_base_only = any(
        served_name in endpoint.served_names and endpoint.offers(endpoint.base, path) for endpoint in table.endpoints
    )
    why = "its engines answer it by the base model alone" if is_base_only else "its engines do not offer it"
    return EndpointNotOffered(f"{path} is not there for {served_name!r}: {why}. {where}", param="model")
