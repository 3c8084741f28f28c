"""Gateways report which revisions are requested, and the registry adds the reports up."""

from __future__ import annotations

from collections.abc import Callable

from registry.database import Registry
from registry.serving.revision_uses import AWAITED_S, TRAFFIC_WINDOW_S, USES_KEPT_S
from registry.types import Use


def test_requests_of_all_gateways_add_up(registry: Registry, advance: Callable[[float], None]) -> None:
    registry.uses.record("g1", {"support@1": 3, "support@2": 1})
    advance(5)
    registry.uses.record("g2", {"support@1": 4})
    expected = [
        Use(served_name="support@1", used_at=1005.0, in_flight=7),
        Use(served_name="support@2", used_at=1000.0, in_flight=1),
    ]
    assert list(registry.snapshot().uses) == expected
    assert registry.snapshot().uses == tuple(expected)


def test_traffic_fades_but_the_last_use_is_remembered(registry: Registry, advance: Callable[[float], None]) -> None:
    registry.uses.record("g1", {"support@1": 3})
    advance(TRAFFIC_WINDOW_S + 1)
    registry.uses.forget_old()
    assert list(registry.snapshot().uses) == [Use(served_name="support@1", used_at=1000.0, in_flight=0)]
    advance(USES_KEPT_S)
    registry.uses.forget_old()
    assert list(registry.snapshot().uses) == []


def test_a_gateway_overwrites_what_it_said(registry: Registry) -> None:
    registry.uses.record("g1", {"support@1": 3})
    registry.uses.record("g1", {"support@1": 1})
    assert [use.in_flight for use in list(registry.snapshot().uses)] == [1]
    registry.uses.record("g1", {"support@1": 0.25})
    registry.uses.record("g2", {"support@1": 0.5})
    assert [use.in_flight for use in list(registry.snapshot().uses)] == [0.75]


def test_a_revision_is_awaited_since_the_first_of_the_requests_that_found_it_nowhere(
    registry: Registry, advance: Callable[[float], None]
) -> None:
    registry.uses.record("g1", {"support@1": 3})
    registry.uses.await_revision("g1", "support@2", 1)
    advance(AWAITED_S - 1)
    registry.uses.await_revision("g2", "support@2", 1)
    assert [use.awaited_since for use in registry.snapshot().uses] == [None, 1000.0]
    registry.uses.await_revision("g1", "support@2", 2)
    advance(AWAITED_S)
    registry.uses.record("g1", {"support@2": 5})
    assert [use.awaited_since for use in registry.snapshot().uses] == [None, 1000.0]
    advance(1)
    assert [use.awaited_since for use in registry.snapshot().uses] == [None, None]
    registry.uses.await_revision("g1", "support@2", 1)
    assert [use.awaited_since for use in registry.snapshot().uses] == [None, 1000.0 + 2 * AWAITED_S]


def test_later_readings_see_new_uses_beside_those_of_the_week(
    registry: Registry, advance: Callable[[float], None]
) -> None:
    registry.uses.record("g1", {"support@2": 3})
    assert [use.served_name for use in registry.snapshot().uses] == ["support@2"]
    advance(3600)
    registry.uses.record("g2", {"support@1": 1, "support@2": 2})
    first, second = registry.snapshot().uses
    assert (first.served_name, first.used_at, first.in_flight) == ("support@1", 4600.0, 1)
    assert (second.served_name, second.used_at, second.in_flight) == ("support@2", 4600.0, 2)
    advance(3600)
    assert [(use.used_at, use.in_flight) for use in registry.snapshot().uses] == [(4600.0, 0)] * 2
    advance(USES_KEPT_S)
    assert registry.snapshot().uses == ()
