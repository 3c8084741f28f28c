"""Pools that may have no replica are known to every reader until the settings have them no more."""

from __future__ import annotations

from dataclasses import replace

from registry.database import Registry
from registry.liveness.sleeping_pools import SleepingPool
from registry.types import Base

NIGHT = SleepingPool(name="night", base="tiny", engine="vllm")


def test_a_pool_is_in_every_snapshot_with_what_it_serves_now(registry: Registry, base: Base) -> None:
    registry.bases.enter(base)
    registry.sleeping_pools.enter(NIGHT)
    entered = registry.changes()
    assert registry.snapshot().sleeping_pools == (NIGHT,)
    registry.sleeping_pools.enter(NIGHT)
    assert registry.changes() == entered  # replicas that start make nobody read anew
    other = replace(NIGHT, engine="sglang", adapters_of="tiny")
    registry.sleeping_pools.enter(other)
    assert registry.snapshot().sleeping_pools == (other,)


def test_pools_that_the_settings_have_no_more_are_gone(registry: Registry, base: Base) -> None:
    registry.bases.enter(base)
    for name in ("day", "night"):
        registry.sleeping_pools.enter(replace(NIGHT, name=name))
    registry.sleeping_pools.keep_only(["night", "new"])
    assert registry.sleeping_pools.list() == [NIGHT]
    registry.sleeping_pools.keep_only([])
    assert registry.snapshot().sleeping_pools == ()
