from __future__ import annotations

import random

from bench.long_running.samples import Sample, slope_of

AN_HOUR = 6.0


def samples(an_hour: float) -> list[Sample]:
    """Half an hour of samples of a process that grows by so many MB an hour, with noise."""
    source = random.Random(7)
    return [
        Sample(
            at_s=at_s,
            resident_mb=100.0 + an_hour * at_s / 3600 + source.gauss(0.0, 0.2),
            proportional_mb=0.0,
            descriptors=0,
            threads=0,
            processor_s=0.0,
            requests=0,
            failed=0,
            served=0,
            metrics_bytes=0,
            scrape_s=0.0,
        )
        for at_s in range(0, 1800, 10)
    ]


def test_a_slope_is_found_within_its_bounds_and_none_in_a_few_samples() -> None:
    grown, flat = (slope_of(samples(an_hour), "resident_mb", 300.0) for an_hour in (AN_HOUR, 0.0))
    assert grown is not None
    assert flat is not None
    assert grown.low < AN_HOUR < grown.high
    assert flat.low < 0.0 < flat.high < grown.low
    assert slope_of(samples(AN_HOUR)[:9], "resident_mb", 0.0) is None
