"""Lorry's placement finds more adapters loaded than least recently used ones by hash, with fewer loads."""

from __future__ import annotations

import pytest

from studies.placement.crowd import FleetCase
from studies.placement.simulation import LoadingOutcome, simulate_loading

CASE = FleetCase(replicas=8, adapters=160, places=16, per_s=12.0, warm_s=120.0, counted_s=120.0, change_s=30.0)


@pytest.fixture(scope="module")
def outcomes() -> dict[str, LoadingOutcome]:
    return {policy: simulate_loading(CASE, policy) for policy in ("Lorry", "LRU by hash, bounded", "LRU by hash")}


def test_placement_finds_more_loaded_and_loads_less_than_hashing_with_a_bound(
    outcomes: dict[str, LoadingOutcome],
) -> None:
    ours, bounded = outcomes["Lorry"], outcomes["LRU by hash, bounded"]
    assert ours.found > bounded.found
    assert ours.loads_per_h < bounded.loads_per_h


def test_no_replica_has_much_more_than_its_share(outcomes: dict[str, LoadingOutcome]) -> None:
    assert outcomes["Lorry"].largest_load < 2.0 < outcomes["LRU by hash"].largest_load
