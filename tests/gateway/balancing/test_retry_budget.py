"""Retries are bounded by the number of requests, so they cannot multiply an overload."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.balancing.retry_budget import RetryBudget


@given(st.lists(st.tuples(st.booleans(), st.floats(0.0, 1.0)), max_size=300))
def test_retries_of_a_window_are_never_more_than_their_part_of_its_requests_and_the_floor(
    moves: list[tuple[bool, float]],
) -> None:
    budget, now = RetryBudget(share=0.2, floor_per_s=1.0, window_s=10.0), 0.0
    requests: list[float] = []
    retries: list[float] = []
    for is_request, pause in moves:
        now += pause
        if is_request:
            budget.note_requests(1, now)
            requests.append(now)
        elif budget.spend(now):
            retries.append(now)
            # a slice is a second: what is up to that much older than the window may still count
            recent = sum(at > now - 11.0 for at in requests)
            assert sum(at > now - 9.0 for at in retries) <= 0.2 * recent + 10.0


def test_when_every_request_fails_one_in_five_is_sent_again() -> None:
    budget = RetryBudget(share=0.2, floor_per_s=0.0)
    taken = 0
    for number in range(1000):
        budget.note_requests(1, number / 100)
        taken += budget.spend(number / 100)
    assert taken == 200


def test_a_few_requests_may_all_be_sent_again() -> None:
    budget = RetryBudget(share=0.2, floor_per_s=10.0)
    budget.note_requests(1, 0.0)
    assert [budget.spend(0.0) for _ in range(101)] == [True] * 100 + [False]


def test_what_was_taken_is_there_again_after_the_window() -> None:
    budget = RetryBudget(share=0.2, floor_per_s=0.1)
    assert [budget.spend(0.0), budget.spend(5.0), budget.spend(11.0)] == [True, False, True]
