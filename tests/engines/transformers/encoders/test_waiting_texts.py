"""Passes over the texts of all requests: each text once, little padding, and nobody waits for a long list."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engines.transformers.encoders.waiting import TokenRow, WaitingTexts

PASS = 64


def rows(*lengths: int) -> list[TokenRow]:
    return [TokenRow([7] * length) for length in lengths]


def drained(waiting: WaitingTexts) -> list[list[tuple[int, int]]]:
    """The passes until nothing waits: request and place of each text."""
    passes = []
    while taken := waiting.next_pass():
        longest = max(text.length for text, _ in taken)
        assert len(taken) == 1 or longest * len(taken) <= PASS
        assert all(len(row.ids) == text.length for text, row in taken)
        passes.append([(text.request, text.place) for text, _ in taken])
    assert waiting.requests == 0
    return passes


@given(st.lists(st.lists(st.integers(1, 100), min_size=1, max_size=20), max_size=6))
def test_every_text_is_in_one_pass_and_none_is_above_the_bound(requests: list[list[int]]) -> None:
    waiting = WaitingTexts(PASS)
    numbers = [waiting.add(rows(*lengths)) for lengths in requests]
    taken = [text for each in drained(waiting) for text in each]
    assert sorted(taken) == sorted(
        (number, place) for number, lengths in zip(numbers, requests, strict=True) for place in range(len(lengths))
    )


def test_texts_of_several_requests_share_a_pass() -> None:
    waiting = WaitingTexts(PASS)
    for _ in range(4):
        waiting.add(rows(16))
    assert len(drained(waiting)) == 1


def test_texts_of_one_length_are_together() -> None:
    waiting = WaitingTexts(PASS)
    waiting.add(rows(8, 32, 8, 32, 8, 8))
    assert [sorted(place for _, place in each) for each in drained(waiting)] == [[1, 3], [0, 2, 4, 5]]


def test_a_short_request_waits_for_one_pass_of_each_other_request_at_most() -> None:
    waiting = WaitingTexts(PASS)
    for _ in range(3):
        waiting.add(rows(*[64] * 50))
    short = waiting.add(rows(5))
    passes = [[request for request, _ in each] for each in drained(waiting)]
    assert next(number for number, each in enumerate(passes) if short in each) <= 3


def test_a_dropped_request_is_forgotten() -> None:
    waiting = WaitingTexts(PASS)
    gone, there = waiting.add(rows(8, 9)), waiting.add(rows(8))
    waiting.drop(gone)
    waiting.drop(gone)
    assert drained(waiting) == [[(there, 0)]]
