"""Gateways store their sums, and the registry adds them up with the feedback."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from registry.database import Registry
from registry.errors import NotFound
from registry.rollouts.answered_completion import AnsweredCompletion
from registry.rollouts.tally import Cell, ErrorKind, Side, Tally, total
from registry.types import LOCAL_TENANT

CANARY = Cell(rollout_id="ro-1", step=0, side=Side.CANARY, replica="r0")
STABLE = Cell(rollout_id="ro-1", step=0, side=Side.STABLE, replica="r0")
ONE = Tally(
    requests=2,
    errors={"broken": 1},
    answers=1,
    output_tokens=9,
    ttft={-12: 1, 100: 1},
    tpot={0: 1},
    ttft_cached={100: 1},
)

COUNTS = st.integers(0, 1000)
TALLIES = st.builds(
    Tally,
    requests=COUNTS,
    errors=st.dictionaries(st.sampled_from(list(ErrorKind)), st.integers(1, 9)),
    length_finishes=COUNTS,
    ttft=st.dictionaries(st.integers(-600, 600), st.integers(1, 9)),
    win_sum=st.integers(0, 8).map(lambda halves: halves / 2),
)


def test_what_two_gateways_counted_is_added_up(registry: Registry) -> None:
    registry.tallies.put("gw-1", {CANARY: ONE, STABLE: ONE})
    registry.tallies.put("gw-2", {CANARY: ONE})
    assert registry.tallies.of_rollout("ro-1") == {CANARY: ONE.plus(ONE), STABLE: ONE}
    assert registry.tallies.of_rollout("ro-2") == {}


def test_saying_the_same_again_changes_nothing_and_more_replaces_it(registry: Registry) -> None:
    for _ in range(2):
        registry.tallies.put("gw-1", {CANARY: ONE})
    assert registry.tallies.of_rollout("ro-1") == {CANARY: ONE}
    registry.tallies.put("gw-1", {CANARY: ONE.plus(ONE)})
    assert registry.tallies.of_rollout("ro-1") == {CANARY: ONE.plus(ONE)}
    registry.tallies.put("gw-1", {})
    assert registry.tallies.of_rollout("ro-1") == {CANARY: ONE.plus(ONE)}


@given(tallies=st.lists(TALLIES, max_size=3))
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
def test_every_count_comes_back_as_it_was(sqlite_registry: Registry, tallies: list[Tally]) -> None:
    for number in range(3):
        tally = tallies[number] if number < len(tallies) else Tally()
        sqlite_registry.tallies.put(f"gw-{number}", {CANARY: tally})
    assert sqlite_registry.tallies.of_rollout("ro-1")[CANARY] == total(tallies)


def test_only_what_a_client_saw_and_the_revision_did_is_a_failure() -> None:
    errors = dict.fromkeys(map(str, ErrorKind), 1)
    assert Tally(errors=errors).failures == len(ErrorKind) - 2
    assert Tally(errors={"retried": 3, "overloaded": 4}).failures == 0


def completion(number: int, cell: Cell, at: float) -> AnsweredCompletion:
    return AnsweredCompletion(f"chatcmpl-{number}", LOCAL_TENANT, "support@2", cell.replica, cell, at)


def test_feedback_is_counted_where_the_answer_came_from(published: Registry) -> None:
    answered = [completion(1, CANARY, 1000.0), completion(2, CANARY, 1000.0), completion(3, STABLE, 1000.0)]
    published.tallies.put("gw-1", {CANARY: ONE}, answered)
    published.feedback.rate("chatcmpl-1", 1.0, "")
    rated = published.feedback.rate("chatcmpl-2", 0.5, "so so")
    published.feedback.rate("chatcmpl-3", 0.0, "")
    assert (rated.served_name, rated.cell) == ("support@2", CANARY)
    assert published.tallies.of_rollout("ro-1") == {
        CANARY: ONE.plus(Tally(feedbacks=2, feedback_sum=1.5, feedback_square_sum=1.25)),
        STABLE: Tally(feedbacks=1),
    }


def test_a_second_rating_takes_the_place_of_the_first(published: Registry, advance: Callable[[float], None]) -> None:
    published.tallies.put("gw-1", {}, [completion(1, CANARY, 1000.0)])
    published.feedback.rate("chatcmpl-1", 1.0, "thanks")
    advance(1)
    last = published.feedback.rate("chatcmpl-1", 0.0, "no, it is wrong")
    assert published.feedback.list("support") == [last]
    assert published.tallies.of_rollout("ro-1") == {CANARY: Tally(feedbacks=1)}


def test_answers_can_be_rated_for_a_limited_time_and_ratings_stay(
    published: Registry, advance: Callable[[float], None]
) -> None:
    published.tallies.put("gw-1", {}, [completion(1, CANARY, 1000.0), completion(2, CANARY, 1050.0)])
    published.feedback.rate("chatcmpl-1", 1.0, "")
    advance(100)
    assert published.feedback.expire(60.0, 10) == 1
    with pytest.raises(NotFound, match=r"no completion 'chatcmpl-1' to rate"):
        published.feedback.rate("chatcmpl-1", 0.0, "")
    assert published.feedback.rate("chatcmpl-2", 0.0, "").score == 0.0
    assert [feedback.completion_id for feedback in published.feedback.list("support")] == ["chatcmpl-2", "chatcmpl-1"]
    with pytest.raises(NotFound, match="sales"):
        published.feedback.list("sales")


def test_a_completion_that_is_told_twice_is_rated_once(published: Registry) -> None:
    twice = [completion(1, STABLE, 1000.0), completion(1, CANARY, 1001.0)]
    for _ in range(2):
        published.tallies.put("gw-1", {}, twice)
    assert published.feedback.rate("chatcmpl-1", 1.0, "").cell == CANARY


def test_a_key_is_held_on_the_side_that_was_said_last_until_it_is_let_go(published: Registry) -> None:
    store = published.forced_sides
    store.put("support", "ann", Side.STABLE, "bob")
    forced = store.put("support", "ann", Side.CANARY, "bob")
    assert store.list("support") == [forced] == list(published.snapshot().forced)
    store.delete("support", "ann", "bob")
    assert store.list("support") == []
    with pytest.raises(NotFound, match="no side forced for the key 'ann'"):
        store.delete("support", "ann", "bob")
    for attempt in (lambda: store.put("sales", "ann", Side.CANARY, "bob"), lambda: store.list("sales")):
        with pytest.raises(NotFound, match="sales"):
            attempt()
    assert [entry.action for entry in published.audit.list(limit=3)] == ["side.release", "side.force", "side.force"]


def test_of_each_tenant_the_newest_answers_and_ratings_are_kept(published: Registry) -> None:
    for tenant, count in (("ann", 5), ("bob", 2)):
        plain = [AnsweredCompletion(f"c-{n}", tenant, "tiny", "r0", None, 1000.0 + n) for n in range(count)]
        evidence = [AnsweredCompletion(f"e-{n}", tenant, "support@2", "r0", CANARY, 1000.0 + n) for n in range(count)]
        published.tallies.put("gw-1", {}, [*plain, *evidence])
        for answered in plain:
            published.feedback.rate(answered.id, 1.0, "", tenant)
    assert published.feedback.expire(3600.0, 2) == 6
    rated = published.feedback.of_served_name("tiny")
    assert sorted((each.tenant, each.completion_id) for each in rated) == [
        ("ann", "c-3"),
        ("ann", "c-4"),
        ("bob", "c-0"),
        ("bob", "c-1"),
    ]
    for gone in ("c-2", "e-2"):
        with pytest.raises(NotFound):
            published.feedback.rate(gone, 1.0, "", "ann")
    assert published.feedback.rate("e-3", 1.0, "", "ann").cell == CANARY


def test_equal_ids_of_two_tenants_are_two_answers(published: Registry) -> None:
    answered = [AnsweredCompletion("c-1", tenant, "tiny", "r0", None, 1000.0) for tenant in ("ann", "bob")]
    published.tallies.put("gw-1", {}, answered)
    published.feedback.rate("c-1", 1.0, "good", "ann")
    published.feedback.rate("c-1", 0.0, "bad", "bob")
    with pytest.raises(NotFound, match="only its receiver may rate"):
        published.feedback.rate("c-1", 0.0, "", "eve")
    (total,) = published.feedback.sums("tiny")
    assert (total.served_name, total.ratings, total.good, total.mean) == ("tiny", 2, 1, 0.5)
    assert published.feedback.sums("support") == []
