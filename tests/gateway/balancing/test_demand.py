"""Demand is an average over some minutes, which noise moves little and a crowd within minutes."""

from __future__ import annotations

import pytest

from gateway.balancing.demand import AVERAGED_S, FORGOTTEN_S, AveragedDemand

NAME = "support@1"


def steady(demand: AveragedDemand, count: int, start: float, seconds: float) -> float:
    """Report *count* requests in flight every five seconds, and return the average at the end."""
    average, now = 0.0, start
    while now < start + seconds:
        now += 5.0
        for _ in range(5):
            demand.sample({NAME: count} if count else {})
        average = demand.report({NAME}, now)[NAME]
    return average


def test_steady_requests_are_their_own_average_from_the_beginning() -> None:
    assert steady(AveragedDemand(), 8, 0.0, 5.0) == 8.0
    assert steady(AveragedDemand(), 8, 0.0, 600.0) == pytest.approx(8.0)


def test_a_crowd_counts_by_two_thirds_after_the_time_constant_and_so_does_its_end() -> None:
    demand = AveragedDemand()
    steady(demand, 0, 0.0, 5.0)
    assert steady(demand, 30, 5.0, AVERAGED_S) == pytest.approx(19.0, abs=0.5)
    crowd = steady(demand, 30, 5.0 + AVERAGED_S, 10 * AVERAGED_S)
    assert crowd == pytest.approx(30.0, abs=0.1)
    assert steady(demand, 0, 5.0 + 11 * AVERAGED_S, AVERAGED_S) == pytest.approx(11.0, abs=0.5)


def test_five_seconds_of_many_requests_move_the_average_by_a_part() -> None:
    demand = AveragedDemand()
    steady(demand, 1, 0.0, 600.0)
    assert steady(demand, 8, 600.0, 5.0) < 1.5


def test_what_is_asked_for_has_an_average_even_if_no_sample_met_it() -> None:
    demand = AveragedDemand()
    assert 0.0 < demand.report({NAME}, 5.0)[NAME] < 0.1
    assert demand.last(NAME) == demand.last("never@1") > 0.0


def test_names_that_are_not_used_are_not_reported_and_forgotten_in_time() -> None:
    demand = AveragedDemand()
    steady(demand, 4, 0.0, 5.0)
    assert demand.report((), 10.0) == {}
    assert demand.last(NAME) == 4.0
    demand.report((), 10.0 + FORGOTTEN_S)
    assert demand.last(NAME) == demand.last("never@1")
