"""The bounds on percentiles of durations hold at every look, and find a slower canary."""

from __future__ import annotations

from math import log

import numpy as np
import pytest

from gateway.rollouts.judge.bounds import Floats
from gateway.rollouts.judge.quantiles import SlowAnswers, buckets_of, margin_of, percentile
from registry.rollouts.tally import bucket_of, seconds_of

ALPHA = 0.1
BUCKETS = 400


def histogram(rng: np.random.Generator, count: int, median: float, spread: float = 0.4) -> Floats:
    """(bucket, 1) of lognormal seconds."""
    positions = np.log(median * np.exp(rng.normal(0, spread, count))) / log(1.02) + 200
    return np.bincount(np.floor(positions).astype(int), minlength=BUCKETS).astype(np.float64)[:, None]


def test_the_percentile_of_a_histogram_is_that_of_the_durations() -> None:
    seconds = np.random.default_rng(1).exponential(size=5000)
    buckets = [bucket_of(each) for each in seconds]
    lowest = min(buckets)
    position = percentile(np.bincount([each - lowest for each in buckets]).astype(np.float64))
    assert seconds_of(lowest - 1) * 1.02**position == pytest.approx(np.quantile(seconds, 0.95), rel=0.01)


@pytest.mark.long
@pytest.mark.parametrize("margin", [0.0, 0.1])
@pytest.mark.parametrize("others", [1, 5])
def test_a_canary_at_its_margin_is_rarely_found_slower_however_often_one_looks(margin: float, others: int) -> None:
    rng = np.random.default_rng(2)
    rollouts, found = 100, 0
    for _ in range(rollouts):
        looks = [(histogram(rng, 20, 1 + margin), histogram(rng, 20 * others, 1.0)) for _ in range(40)]
        canary, stable = (np.cumsum(side, axis=0) for side in zip(*looks, strict=True))
        evidence = SlowAnswers.of(canary, stable).log_evidence(buckets_of(margin))
        found += bool(np.any(evidence >= -log(ALPHA)))
    assert found <= rollouts * ALPHA + 3.1 * (rollouts * ALPHA * (1 - ALPHA)) ** 0.5


def test_a_canary_that_is_slower_is_found_so_and_its_slowdown_is_between_the_bounds() -> None:
    rng = np.random.default_rng(3)
    slow = SlowAnswers.of(histogram(rng, 4000, 1.3), histogram(rng, 20000, 1.0))
    low, high = margin_of(slow.bound(ALPHA)), margin_of(slow.bound(ALPHA, lower=False))
    assert 0.15 < low < 0.3 < high < 0.45


def test_a_canary_that_is_faster_is_never_found_slower() -> None:
    rng = np.random.default_rng(4)
    slow = SlowAnswers.of(histogram(rng, 4000, 0.7), histogram(rng, 20000, 1.0))
    assert slow.bound(ALPHA, lower=False) < 0
    assert float(slow.log_evidence(0.0)) < 0


def test_millions_of_alike_answers_are_no_evidence_though_buckets_are_coarse() -> None:
    rng = np.random.default_rng(5)
    slow = SlowAnswers.of(histogram(rng, 2_000_000, 1.0), histogram(rng, 2_000_000, 1.0))
    assert float(slow.log_evidence(0.5)) < -log(ALPHA)
    assert -1 < slow.bound(ALPHA) < slow.bound(ALPHA, lower=False) < 1


def test_the_evidence_falls_with_what_is_claimed() -> None:
    rng = np.random.default_rng(6)
    slow = SlowAnswers.of(histogram(rng, 500, 1.5), histogram(rng, 5000, 1.0))
    evidence = [float(slow.log_evidence(buckets)) for buckets in range(-10, 30)]
    assert evidence == sorted(evidence, reverse=True)
    assert evidence[0] > evidence[-1]


def test_few_answers_bound_nothing() -> None:
    rng = np.random.default_rng(7)
    slow = SlowAnswers.of(histogram(rng, 3, 9.0), histogram(rng, 3, 1.0))
    assert slow.bound(ALPHA) < 0
    assert slow.bound(ALPHA, lower=False) > 0


def test_a_replica_that_is_slow_for_both_sides_is_no_evidence() -> None:
    rng = np.random.default_rng(8)
    canary = np.concatenate([histogram(rng, 200, 1.0), histogram(rng, 1800, 4.0)], axis=1)
    stable = np.concatenate([histogram(rng, 18000, 1.0), histogram(rng, 2000, 4.0)], axis=1)
    assert SlowAnswers.of(canary, stable).bound(ALPHA) < 0
    pooled = SlowAnswers.of(canary.sum(axis=1, keepdims=True), stable.sum(axis=1, keepdims=True))
    assert pooled.bound(ALPHA) > 0
