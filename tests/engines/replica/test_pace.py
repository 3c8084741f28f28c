"""A replica that has nothing new to say or see costs an idle machine little, and stays within its heartbeat."""

from __future__ import annotations

import pytest

from engines.replica.adapter_sets import Pace


@pytest.mark.parametrize(("tick_s", "beat_s"), [(0.25, 2.0), (0.02, 0.16), (0.5, 2.0), (3.0, 3.0)])
def test_a_beat_is_every_two_seconds_unless_the_ticks_are_very_short_or_longer(tick_s: float, beat_s: float) -> None:
    pace = Pace(tick_s=tick_s, unroute_s=1.0, settle_s=1.0, drain_timeout_s=1.0)
    assert pace.beat_s == pytest.approx(beat_s)
