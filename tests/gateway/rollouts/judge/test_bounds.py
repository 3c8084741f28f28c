"""The bounds on rare events and scores hold at every look, and find a worse canary."""

from __future__ import annotations

from math import log, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.rollouts.judge.bounds import Family, Floats, Sums, against, means, shares

ALPHA = 0.1


def sums(count: object, total: object, squares: object = None) -> Sums:
    counted, added = np.asarray(count, dtype=np.float64), np.asarray(total, dtype=np.float64)
    return Sums(count=counted, total=added, squares=added if squares is None else np.asarray(squares, dtype=np.float64))


def running(values: Floats) -> Sums:
    """(rollout, look, value) -> sums up to each look, one stratum."""
    return Sums(
        count=np.cumsum(np.full(values.shape[:2], float(values.shape[2])), axis=1)[..., None],
        total=np.cumsum(values.sum(axis=2), axis=1)[..., None],
        squares=np.cumsum((values**2).sum(axis=2), axis=1)[..., None],
    )


def ever(family: Family, excess: float) -> float:
    """The part of the rollouts in which some look finds the excess proven."""
    return float(np.mean(np.any(family.log_evidence(excess) >= -log(ALPHA), axis=1)))


def at_most(share: float, rollouts: int) -> float:
    """The count that a share that is not larger shows in so many rollouts, but for one time in a thousand."""
    return share + 3.1 * sqrt(share * (1 - share) / rollouts)


@pytest.mark.parametrize(("level", "margin"), [(0.01, 0.0), (0.01, 0.02), (0.3, 0.0), (0.6, 0.1)])
@pytest.mark.parametrize("others", [1, 6])
def test_a_canary_at_its_margin_is_rarely_found_worse_however_often_one_looks(
    level: float, margin: float, others: int
) -> None:
    rng = np.random.default_rng(1)
    canary = running((rng.random((500, 150, 3)) < level + margin).astype(np.float64))
    stable = running((rng.random((500, 150, 3 * others)) < level).astype(np.float64))
    found = ever(shares(canary, stable), margin)
    assert found <= at_most(ALPHA, 500)
    assert ever(shares(canary, stable), margin - 0.2) > 0.5


@pytest.mark.long
def test_what_happens_to_both_sides_is_no_evidence() -> None:
    rng = np.random.default_rng(2)
    level = np.where(np.arange(300) < 100, 0.01, 0.2)[None, :, None]
    canary = running((rng.random((500, 300, 2)) < level).astype(np.float64))
    stable = running((rng.random((500, 300, 10)) < level).astype(np.float64))
    assert ever(shares(canary, stable), 0.0) <= at_most(ALPHA, 500)


def scores(rng: np.random.Generator, shape: tuple[int, ...], parts: list[float]) -> Floats:
    return rng.choice([0.0, 0.25, 0.5, 0.75, 1.0], size=shape, p=parts)


@pytest.mark.parametrize("parts", [[0.9, 0.0, 0.0, 0.0, 0.1], [0.2, 0.2, 0.2, 0.2, 0.2], [0.02, 0.0, 0.0, 0.0, 0.98]])
@pytest.mark.parametrize("others", [1, 6])
def test_scores_at_the_margin_are_rarely_found_worse_however_often_one_looks(parts: list[float], others: int) -> None:
    rng = np.random.default_rng(3)
    canary = running(scores(rng, (200, 100, 1), parts))
    stable = running(scores(rng, (200, 100, others), parts))
    assert ever(means(canary, stable), 0.0) <= at_most(ALPHA, 200)
    assert ever(means(canary, stable), -0.3) > 0.5


def test_a_small_spread_makes_a_mean_known_sooner() -> None:
    narrow = means(sums([60.0], [36.0], [22.0]), sums([600.0], [300.0], [154.0]))
    wide = means(sums([60.0], [36.0], [36.0]), sums([600.0], [300.0], [300.0]))
    assert narrow.lower_bound(ALPHA) > wide.lower_bound(ALPHA)


@pytest.mark.parametrize("more", [True, False])
def test_a_known_mean_is_rarely_denied(more: bool) -> None:
    rng = np.random.default_rng(4)
    seen = running((rng.random((500, 300, 4)) < 0.05).astype(np.float64))
    denied = np.any(against(0.05, seen, more=more)[..., 0] >= -log(ALPHA), axis=1)
    assert np.mean(denied) <= at_most(ALPHA, 500)
    wrong = against(0.02 if more else 0.1, seen, more=more)[:, -1, 0] >= -log(ALPHA)
    assert np.mean(wrong) > 0.9


bad_shares = st.tuples(st.integers(1, 2000), st.floats(0, 1)).map(lambda pair: (pair[0], round(pair[0] * pair[1])))


@given(bad_shares, bad_shares, st.sampled_from([0.2, 0.05, 0.001]))
@settings(max_examples=60)
def test_the_difference_that_is_seen_lies_between_its_bounds(
    canary: tuple[int, int], stable: tuple[int, int], alpha: float
) -> None:
    ours, theirs = sums([canary[0]], [canary[1]]), sums([stable[0]], [stable[1]])
    seen = canary[1] / canary[0] - stable[1] / stable[0]
    for build in (shares, means):
        low, high = build(ours, theirs).lower_bound(alpha), -build(theirs, ours).lower_bound(alpha)
        assert low < seen < high


@given(bad_shares, bad_shares)
@settings(max_examples=60)
def test_a_bound_is_where_the_evidence_just_suffices(canary: tuple[int, int], stable: tuple[int, int]) -> None:
    family = shares(sums([canary[0]], [canary[1]]), sums([stable[0]], [stable[1]]))
    bound = float(family.lower_bound(ALPHA))
    assert family.log_evidence(bound - 1e-4) >= -log(ALPHA) > family.log_evidence(bound + 1e-4)
    assert float(family.lower_bound(ALPHA / 10)) < bound


def test_one_more_bad_answer_of_the_canary_raises_the_bound_and_one_of_stable_lowers_it() -> None:
    bound = shares(sums([500], [20]), sums([500], [20])).lower_bound(ALPHA)
    assert shares(sums([500], [21]), sums([500], [20])).lower_bound(ALPHA) > bound
    assert shares(sums([500], [20]), sums([500], [21])).lower_bound(ALPHA) < bound


def test_sides_that_are_alike_are_bounded_alike() -> None:
    alike = sums([500, 300], [20, 30])
    for build in (shares, means):
        family = build(alike, alike)
        assert family.lower_bound(ALPHA) == pytest.approx(build(alike, alike).lower_bound(ALPHA))
        assert family.lower_bound(ALPHA) < 0


def test_without_requests_on_both_sides_nothing_is_known() -> None:
    for canary, stable in (([0], [0]), ([0], [100]), ([100], [0])):
        family = shares(sums(canary, canary), sums(stable, stable))
        assert family.lower_bound(ALPHA) == -np.inf
        assert family.log_evidence(0.0) <= 0.0


def test_more_data_of_the_same_kind_narrow_the_bounds() -> None:
    widths = []
    for times in (1, 10, 100):
        ours, theirs = sums([100 * times], [5 * times]), sums([1000 * times], [50 * times])
        widths.append(-shares(theirs, ours).lower_bound(ALPHA) - shares(ours, theirs).lower_bound(ALPHA))
    assert widths[0] > 2 * widths[1] > 4 * widths[2]


def test_strata_that_differ_are_not_mixed_up() -> None:
    # the canary got most of its requests where everybody fails more often
    canary, stable = sums([100, 900], [1, 180]), sums([9000, 1000], [90, 200])
    pooled = shares(sums([1000], [181]), sums([10000], [290]))
    assert pooled.lower_bound(ALPHA) > 0.1
    assert shares(canary, stable).lower_bound(ALPHA) < 0
