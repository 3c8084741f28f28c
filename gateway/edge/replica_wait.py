"""The wait for a replica that serves a name, in which the name is asked for."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Final

from gateway.edge.parts import Gateway
from gateway.errors import EngineUnavailable, ModelNotFound
from gateway.routing.readiness import why_unserved
from gateway.routing.routing import RouteTable
from gateway.routing.sleeping import pool_to_wake
from registry.errors import RegistryError

_ASK_EVERY_S: Final = 1.0
"""How often a revision is asked for while requests wait for it."""


_COLD_RETRY_S: Final = 10
"""After which a request that a pool did not wake for is worth another try."""


def stayed_asleep(table: RouteTable, pool: str, waited_s: float) -> EngineUnavailable:
    """Return the error for a request that waited for the first replica of *pool*, with what its replicas report."""
    replicas = () if table.source is None else table.source.replicas
    own = [replica for replica in replicas if replica.pool == pool]
    reports = "; ".join(f"{each.id} is {each.state}{each.message and f' ({each.message})'}" for each in own)
    return EngineUnavailable(
        f"pool {pool!r} was asleep, and had no replica ready within {waited_s:.0f} s: "
        f"{reports or 'none has begun to start'}. It goes on starting; send the request again",
        retry_after_s=_COLD_RETRY_S,
    )


async def replica_of(gateway: Gateway, served_name: str, most_s: float) -> None:
    """Return once a replica serves the name, which is asked for where no replica has it; else `EngineUnavailable`.

    `ModelNotFound` for a whole model that a job made and that no pool is for.

    A revision on its way into a replica is waited for as long as the request may. `replica_wait_s` counts where its
    base has no replica (`cold_start_wait_s` where the pool sleeps by now), and where a replica could not load or prove
    it.
    """
    with suppress(RegistryError):  # the replica may have reported since the last reading
        await gateway.feed.refresh()
    source = gateway.feed.table.source
    on = gateway.feed.table.pinned.get(served_name, served_name)
    if source is not None and (why := why_unserved(source, on)) is not None:
        raise ModelNotFound(why)
    began = time.monotonic()
    while True:
        table = gateway.feed.table
        base, asleep = table.pinned.get(served_name), pool_to_wake(table, served_name)
        if asleep is not None or (base is not None and not table.endpoints_of(served_name)):
            await gateway.demand.ask_for(served_name)
        failure = gateway.feed.failure_of(served_name)
        is_on_its_way = base is not None and table.endpoints_of(base) and not failure
        short_s = gateway.settings.replica_wait_s if asleep is None else gateway.settings.cold_start_wait_s
        until = began + (most_s if is_on_its_way else min(most_s, short_s))
        try:
            wait_s = max(0.01, min(_ASK_EVERY_S, until - time.monotonic()))
            await gateway.feed.wait_for_endpoints(served_name, wait_s)
        except EngineUnavailable as exc:
            # Asked for again, so that the revision keeps its turn where others want its place as well.
            if time.monotonic() >= until:
                raise EngineUnavailable(f"{exc}{failure and f'; {failure}'}", retry_after_s=2) from exc
        else:
            return
