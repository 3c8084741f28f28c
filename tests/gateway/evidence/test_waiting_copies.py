"""A bounded number of copies waits, for a bounded time."""

from __future__ import annotations

from collections.abc import Callable

from gateway.evidence.answer_facts import AnswerFacts
from gateway.evidence.waiting_copies import ShadowCopy, WaitingCopies, WaitingCopy
from gateway.routing.routing import Evidence
from registry.rollouts.tally import Side, Tally

LONGEST_S = 60.0
EVIDENCE = Evidence(adapter="support", rollout_id="ro-1", step=0, side=Side.STABLE)
COPY = ShadowCopy(evidence=EVIDENCE, canary="support@2", judge=None, path="/v1/chat/completions", body={})


def waiting(since: float, replica: str = "r0") -> WaitingCopy:
    return WaitingCopy(
        copy=COPY, replica=replica, original=AnswerFacts(error=None, completion_id="", tally=Tally()), since=since
    )


def queue(*copies: WaitingCopy, most: int = 3) -> WaitingCopies:
    made = WaitingCopies(most, LONGEST_S)
    for each in copies:
        made.add(each)
    return made


def always(obstacle: str) -> Callable[[WaitingCopy], str]:
    return lambda _: obstacle


def test_those_without_an_obstacle_are_made_the_oldest_first_also_one_that_was_put_back() -> None:
    copies = queue(waiting(2.0), waiting(3.0), waiting(1.0))
    asked: list[float] = []

    def obstacle_to(each: WaitingCopy) -> str:
        asked.append(each.since)
        return "replica_busy" if each.since == 2.0 else ""

    assert copies.sort_out(obstacle_to, now=4.0) == []
    assert asked == [1.0, 2.0, 3.0]
    assert len(copies) == 1
    assert copies.sort_out(always(""), now=4.0) == []
    assert not copies


def test_of_too_many_the_oldest_are_left_out_with_what_is_in_their_way() -> None:
    copies = queue(*(waiting(float(since)) for since in range(5)))
    assert [(each.waiting.since, each.reason) for each in copies.sort_out(always("replica_busy"), now=5.0)] == [
        (0.0, "replica_busy"),
        (1.0, "replica_busy"),
    ]
    assert len(copies) == 3


def test_those_that_are_made_take_no_place_in_the_queue() -> None:
    copies = queue(*(waiting(float(since), replica=f"r{since}") for since in range(5)))
    assert copies.sort_out(lambda each: "" if each.since < 2 else "budget_spent", now=5.0) == []
    assert copies.replicas == {"r2", "r3", "r4"}


def test_one_that_waited_for_too_long_is_left_out() -> None:
    copies = queue(waiting(0.0), waiting(1.0))
    assert [each.waiting.since for each in copies.sort_out(always("copies_under_way"), now=LONGEST_S + 0.5)] == [0.0]
    assert len(copies) == 1
