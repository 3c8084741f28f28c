"""Waiting for a replica that serves a revision."""

from __future__ import annotations

from gateway.edge.parts import EdgeParts


async def replica_of(parts: EdgeParts, served_name: str, most_s: float) -> None:
    """Return once a replica serves the name, which is asked for where no replica has it; else `EngineUnavailable`."""
    if served_name in parts.feed.table.pinned and not parts.feed.table.endpoints_of(served_name):
        await parts.demand.ask_for(served_name)
    await parts.feed.wait_for_endpoints(served_name, max(0.01, min(parts.settings.replica_wait_s, most_s)))
