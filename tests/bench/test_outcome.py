"""The outcome of a drill follows from the results of its requests."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.drilling.outcome import Request, outcome_of, read_log

FAULT_AT = 10.0


def request(began: float, seconds: float, outcome: str = "ok", status: int = 200, *, byte: bool = True) -> Request:
    first_byte = began + seconds / 2 if byte else None
    return Request(began=began, first_byte=first_byte, ended=began + seconds, outcome=outcome, status=status)


USUAL = [request(at / 10, 0.2) for at in range(80)]


def test_what_had_no_byte_is_told_apart_from_what_had() -> None:
    found = outcome_of(
        [
            [*USUAL, request(10.1, 0.1, "unanswered", 0, byte=False), request(10.1, 0.1, "status", 503)],
            [request(10.1, 0.3, "error_event"), request(10.1, 0.3, "cut"), request(10.1, 70.0, "timed_out")],
        ],
        FAULT_AT,
    )
    assert found.sent == len(USUAL) + 5
    assert (found.unanswered, found.why) == (2, "1 unanswered, 1 503")
    assert (found.error_events, found.broken) == (1, 2)


def test_it_is_normal_again_when_the_last_that_failed_or_was_slow_has_ended() -> None:
    after = [request(10.0, 0.1, "error_event"), request(10.5, 1.5), request(12.5, 0.2)]
    assert outcome_of([USUAL + after], FAULT_AT).normal_after_s == pytest.approx(2.0)
    assert outcome_of([USUAL + after], FAULT_AT).worst_s == pytest.approx(1.5)


def test_kinds_of_requests_have_their_own_idea_of_slow() -> None:
    slow_kind = [request(at / 10, 2.0) for at in range(60)] + [request(10.5, 2.5)]
    assert outcome_of([USUAL, slow_kind], FAULT_AT).normal_after_s == 0.0
    assert outcome_of([USUAL + slow_kind[-1:]], FAULT_AT).normal_after_s == pytest.approx(3.0)


def test_a_fault_that_nobody_notices_takes_no_time() -> None:
    assert outcome_of([[*USUAL, request(10.0, 0.3)]], FAULT_AT).normal_after_s == 0.0


def test_the_log_of_the_load_generator_is_understood(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("1.5 1.75 2.5 ok 200\n1.5 0.000000 2.5 refused 0\n")
    assert read_log(log) == [
        Request(began=1.5, first_byte=1.75, ended=2.5, outcome="ok", status=200),
        Request(began=1.5, first_byte=None, ended=2.5, outcome="refused", status=0),
    ]
