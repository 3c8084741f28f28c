"""Gateways follow the registry, and do no work where nothing changed."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import sqlalchemy as sa

from gateway.routing.route_feed import RouteFeed
from gateway.settings import GatewaySettings
from registry.database import Registry
from registry.errors import RegistryUnavailable
from registry.rollouts.rollout import RolloutPlan, weighted
from registry.rollouts.rollout_state import RolloutState
from tests.gateway.stage import report

SETTINGS = GatewaySettings()


def feed_of(registry: Registry) -> RouteFeed:
    return RouteFeed(registry, SETTINGS)


def test_a_promotion_is_in_the_next_reading_and_nothing_else_makes_another_table(two_revisions: Registry) -> None:
    async def story() -> None:
        feed = feed_of(two_revisions)
        await feed.refresh()
        first = feed.table
        assert first.routes["support"].stable == "support@1"
        report(two_revisions, "r1", "support@1")  # a heartbeat
        two_revisions.uses.record("g1", {"support@1": 3})
        await feed.refresh()
        assert feed.table is first
        report(two_revisions, "r1", "support@1", "support@2")
        await feed.refresh()
        assert [each.replica for each in feed.table.endpoints_of("support@2")] == ["r1"]
        assert feed.table.routes is first.routes
        plan = RolloutPlan(steps=weighted(100))
        rollout = two_revisions.rollouts.start("support", 2, plan, actor="me")
        move = two_revisions.rollouts.move
        move(rollout.id, rollout.state, RolloutState.PROMOTED, reason="loaded")
        await feed.refresh()
        assert feed.table.routes["support"].stable == "support@2"
        assert feed.table.routes["support"].is_promoted

    asyncio.run(story())


def test_a_route_is_plain_again_when_its_rollout_has_ended(two_revisions: Registry) -> None:
    async def story() -> None:
        feed = feed_of(two_revisions)
        await feed.refresh()
        plain = feed.table.routes["support"]
        rollout = two_revisions.rollouts.start("support", 2, RolloutPlan(steps=weighted(50, 100)), actor="me")
        await feed.refresh()
        assert feed.table.routes["support"] == replace(plain, canary="support@2")
        two_revisions.rollouts.move(rollout.id, rollout.state, RolloutState.ABORTED, reason="requested")
        await feed.refresh()
        assert feed.table.routes["support"] == plain

    asyncio.run(story())


def test_many_who_ask_at_once_share_readings(two_revisions: Registry) -> None:
    async def story() -> None:
        feed = feed_of(two_revisions)
        await asyncio.gather(*(feed.refresh() for _ in range(50)))
        assert "support" in feed.table.routes
        report(two_revisions, "r1", "support@1", "support@2")
        await asyncio.gather(*(feed.refresh() for _ in range(50)))
        assert feed.table.endpoints_of("support@2")

    asyncio.run(story())


def test_a_failed_reading_is_told_to_who_asked_and_keeps_the_table(two_revisions: Registry) -> None:
    async def story() -> None:
        feed = feed_of(two_revisions)
        await feed.refresh()
        table = feed.table
        with two_revisions.transactions.write() as tx:
            tx.exec_driver_sql("ALTER TABLE table_changes RENAME TO away")
        results = await asyncio.gather(feed.refresh(), feed.refresh(), return_exceptions=True)
        assert [type(each) for each in results] == [RegistryUnavailable] * 2
        assert feed.table is table
        with two_revisions.transactions.write() as tx:
            tx.exec_driver_sql("ALTER TABLE away RENAME TO table_changes")
        await feed.refresh()
        assert feed.table is table

    asyncio.run(story())


def test_a_reading_that_waited_for_the_database_is_soon_made_again(two_revisions: Registry) -> None:
    waits_s = 0.2

    def wait(*_: object) -> None:
        time.sleep(waits_s)

    async def story() -> None:
        feed = RouteFeed(two_revisions, GatewaySettings(route_refresh_s=0.01))
        sa.event.listen(sa.Engine, "before_cursor_execute", wait)
        try:
            await feed.refresh()
        finally:
            sa.event.remove(sa.Engine, "before_cursor_execute", wait)
        assert feed.rest_s < waits_s

    asyncio.run(story())
