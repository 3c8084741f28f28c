"""The rate of a step's requests follows from successive looks, and never from anything else."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.rollouts.judge.traffic import traffic_of
from registry.rollouts.tally import Cell, Side, Tally


def look(before: dict[str, Any] | None, now: float, canary: int, stable: int, step: int = 0) -> dict[str, Any]:
    cells = {
        Cell(rollout_id="r", step=step, side=Side.CANARY, replica="a"): Tally(requests=canary),
        Cell(rollout_id="r", step=step, side=Side.STABLE, replica="a"): Tally(requests=stable),
        Cell(rollout_id="r", step=step + 1, side=Side.CANARY, replica="a"): Tally(requests=1000),
    }
    return traffic_of(before, cells, step, needed=100, now=now)


def test_a_first_look_counts_and_measures_nothing() -> None:
    first = look(None, 1000.0, 8, 40)
    assert (first["canary_requests"], first["stable_requests"], first["needed"]) == (8, 40, 100)
    assert (first["canary_per_min"], first["measured_s"], first["last_request_at"]) == (0.0, 0.0, None)


def test_a_steady_rate_is_found_at_once_and_kept() -> None:
    seen = look(None, 1000.0, 0, 0)
    for second in range(1, 121):
        seen = look(seen, 1000.0 + second, 2 * second, 6 * second)
        assert seen["canary_per_min"] == pytest.approx(120.0)
        assert seen["stable_per_min"] == pytest.approx(360.0)
    assert (seen["measured_s"], seen["last_request_at"]) == (120.0, 1120.0)


def test_a_rate_fades_when_the_traffic_ends_and_the_last_request_stays_known() -> None:
    seen = look(look(None, 1000.0, 0, 0), 1060.0, 60, 60)
    for second in range(1, 181):
        seen = look(seen, 1060.0 + second, 60, 60)
    assert seen["canary_per_min"] < 5.0
    assert seen["last_request_at"] == 1060.0


def test_a_clock_that_was_set_back_begins_the_measuring_anew() -> None:
    seen = look(look(None, 1000.0, 5, 5), 400.0, 9, 9)
    assert (seen["measured_s"], seen["canary_per_min"], seen["canary_requests"]) == (0.0, 0.0, 9)
