"""The controller calls a pool that is asked for until it has a replica, which finds out itself whether it may leave."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from engines.loops import Loops
from gateway.errors import EngineUnavailable
from gateway.pools.keeping_awake import Wakefulness
from gateway.pools.waking import PoolWaker
from registry.database import Registry
from registry.liveness.sleeping_pools import SleepingPool
from registry.rollouts.rollout import RolloutPlan, weighted
from registry.states import ReplicaState
from tests.clock import Clock
from tests.gateway.stage import report

NIGHT = SleepingPool(name="night", base="tiny", engine="transformers")
GATEWAY = "g1"


class Calls:
    """`PoolCalls` whose first call fails; the second one brings a replica."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.made: list[str] = []

    async def call(self, pool: str) -> None:
        self.made.append(pool)
        if len(self.made) == 1:
            raise EngineUnavailable("no application has the pool")
        report(self._registry, "r1", state=ReplicaState.STARTING, pool="night")


@pytest.fixture
def asleep(two_revisions: Registry) -> Iterator[Registry]:
    """`support@1` is stable, and the only pool sleeps."""
    two_revisions.sleeping_pools.enter(NIGHT)
    two_revisions.replicas.mark_gone("r1")
    yield two_revisions


@pytest.mark.long
def test_a_pool_is_called_again_after_a_failure_and_not_again_once_a_replica_starts(asleep: Registry) -> None:
    async def story() -> list[str]:
        calls = Calls(asleep)
        loops = Loops()
        loops.start("waker", PoolWaker(asleep, calls).run)
        await asyncio.sleep(0.3)
        assert calls.made == []
        async with asyncio.timeout(60):
            while asleep.replicas.list()[0].state is ReplicaState.GONE:
                # Gateways ask again and again while their requests wait.
                await asyncio.to_thread(asleep.uses.await_revision, GATEWAY, "support@1", 1)
                await asyncio.sleep(0.05)
        loops.cancel()
        return calls.made

    assert asyncio.run(story()) == ["night", "night"]


def test_a_replica_is_needed_while_requests_come_or_wait_or_a_canary_is_to_be_proven(
    asleep: Registry, clock: Clock
) -> None:
    replica = Wakefulness(asleep, NIGHT)
    assert not replica.is_needed()
    asleep.uses.record(GATEWAY, {"support@1": 1})
    assert replica.is_needed()
    assert not replica.is_needed()
    clock.advance(5.0)
    asleep.uses.record(GATEWAY, {"support@1": 1})  # a stream that is still open counts in every report
    assert replica.is_needed()
    asleep.uses.await_revision(GATEWAY, "support@2", 1)
    assert replica.is_needed()
    assert replica.is_needed()
    clock.advance(60.0)
    assert not replica.is_needed()
    rollout = asleep.rollouts.start("support", 2, RolloutPlan(steps=weighted(50, 100)), "me")
    assert rollout.state == "pending"
    assert replica.is_needed()


def test_a_replica_that_does_not_know_whether_it_is_idle_is_needed(asleep: Registry) -> None:
    with asleep.transactions.write() as tx:
        tx.exec_driver_sql("ALTER TABLE revision_uses RENAME TO away")
    assert Wakefulness(asleep, NIGHT).is_needed()
