"""Peaks of requests count for minutes, so that the number of copies does not follow noise."""

from __future__ import annotations

from gateway.balancing.demand import HeldPeaks


def test_a_peak_counts_at_once_and_is_held_for_one_to_two_windows() -> None:
    held = HeldPeaks(window_s=100.0)
    assert held.add({"support@1": 9}, 0.0) == {"support@1": 9}
    assert held.add({"support@1": 1}, 50.0) == {"support@1": 9}
    assert held.add({"support@1": 2}, 100.0) == {"support@1": 9}
    assert held.add({"support@1": 12}, 150.0) == {"support@1": 12}
    assert held.add({"support@1": 1}, 200.0) == {"support@1": 12}
    assert held.add({"support@1": 1}, 300.0) == {"support@1": 1}


def test_names_without_a_request_are_not_reported_and_silence_ends_every_window() -> None:
    held = HeldPeaks(window_s=100.0)
    held.add({"support@1": 9, "sales@1": 4}, 0.0)
    assert held.add({"sales@1": 1}, 50.0) == {"sales@1": 4}
    assert held.add({"support@1": 1}, 1000.0) == {"support@1": 1}
