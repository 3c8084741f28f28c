"""Intervals and paired tests, beside values that others have published or that can be counted by hand."""

from __future__ import annotations

import pytest

from evaluation.errors import NotComparable
from evaluation.scores import ScoredRow, compare_rows, scores_of
from evaluation.statistics import bootstrap, mcnemar, paired, sign_flips, wilson


def test_wilsons_interval_has_the_published_bounds() -> None:
    # Newcombe 1998 (Stat Med 17:857), table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29
    published = {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0.0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }
    for (successes, trials), (low, high) in published.items():
        found = wilson(successes, trials)
        assert found.low == pytest.approx(low, abs=5e-5)
        assert found.high == pytest.approx(high, abs=5e-5)


def test_mcnemars_exact_test_is_twice_the_binomial_tail() -> None:
    assert mcnemar(1, 6) == pytest.approx(2 * (1 + 7) / 2**7)
    assert (mcnemar(0, 0), mcnemar(3, 3)) == (1.0, 1.0)


def test_signs_are_flipped_in_every_way_where_there_are_few() -> None:
    # Of the eight assignments of signs to 1, 1, 1 two have a sum as far from zero.
    assert sign_flips([1, 1, 1, 0], [1, 1, 1, 1]) == pytest.approx(2 / 8)
    assert sign_flips([0, 0], [1, 1]) == 1.0


def test_equal_answers_differ_by_exactly_nothing_and_the_same_rows_always_give_the_same_numbers() -> None:
    same = paired([1, 0, 1], [1, 0, 1], [1, 1, 1], [(True, True), (False, False), (True, True)])
    assert (same.difference, same.lower_bound, same.p_scores, same.p_passed) == (0, 0, 1, 1)
    values, weights = [0.1, 0.9, 0.4, 0.6], [1, 2, 1, 1]
    assert bootstrap(values, weights) == bootstrap(values, weights)
    low, high = bootstrap(values, weights).low, bootstrap(values, weights).high
    assert min(values) <= low < 0.58 < high <= max(values)


def test_scores_weigh_rows_and_are_given_by_tag() -> None:
    rows = [
        ScoredRow(id="a", score=1.0, has_passed=True, weight=3, tags=("x",)),
        ScoredRow(id="b", score=0.0, has_passed=False, weight=1, tags=("x", "y")),
    ]
    found = scores_of(rows)
    assert (found.overall.score, found.overall.method, found.overall.pass_rate) == (0.75, "bootstrap", 0.5)
    assert (found.tags["y"].score, found.tags["y"].method) == (0.0, "wilson")
    with pytest.raises(NotComparable):
        compare_rows(rows, rows[:1])
