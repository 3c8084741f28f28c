"""The size of a pool follows from the requests that run and wait in its engines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.pools.autoscaling import REQUESTS, FollowRequests, desired_replicas, reported_load


@dataclass(slots=True)
class Told:
    """The context that Serve gives a policy."""

    aggregated_metrics: Mapping[str, Mapping[Any, float]] | None
    target_num_replicas: int = 2
    capacity_adjusted_min_replicas: int = 1
    capacity_adjusted_max_replicas: int = 4


@pytest.mark.parametrize(
    ("requests", "expected"), [(0.0, 1), (0.1, 1), (8.0, 1), (8.1, 2), (16.0, 2), (24.5, 4), (900.0, 4)]
)
def test_each_replica_has_the_target_of_requests_within_the_bounds(requests: float, expected: int) -> None:
    assert desired_replicas(requests, 8.0, 1, 4) == expected


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0.1, 100), st.integers(1, 5), st.integers(5, 50))
def test_more_requests_never_mean_fewer_replicas(
    some: float, more: float, target: float, least: int, most: int
) -> None:
    assert least <= desired_replicas(some, target, least, most) <= most
    assert desired_replicas(some, target, least, most) <= desired_replicas(some + more, target, least, most)


def test_the_requests_of_all_replicas_count() -> None:
    assert FollowRequests(4.0)(Told({REQUESTS: {"a": 5.0, "b": 4.0}})) == (3, {})


@pytest.mark.parametrize("target", [0.5, 8.0])
def test_what_needs_a_replica_beside_requests_keeps_the_last_one_and_adds_none(target: float) -> None:
    idle, needed = reported_load(0, is_needed=False), reported_load(0, is_needed=True)
    assert desired_replicas(idle, target, 0, 4) == 0
    assert desired_replicas(needed, target, 0, 4) == 1
    assert desired_replicas(4 * needed, target, 0, 4) == 1
    assert reported_load(7, is_needed=True) == 7.0


@pytest.mark.parametrize("nothing", [None, {}, {REQUESTS: {}}])
def test_while_no_replica_has_said_anything_their_number_stays(nothing: Mapping[str, Mapping[Any, float]]) -> None:
    assert FollowRequests(4.0)(Told(nothing)) == (2, {})
