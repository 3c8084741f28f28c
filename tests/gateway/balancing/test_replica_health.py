"""Replicas that fail are passed over, longer each time, and get traffic back slowly."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from gateway.balancing.replica_health import FirstByte, HealthPolicy, ReplicaHealth
from gateway.routing.routing import Endpoint

POLICY = HealthPolicy(pause_s=1.0, longest_pause_s=8.0, errors_in_a_row=3, slow_start_s=10.0)


def endpoints(count: int, pool: str = "default") -> tuple[Endpoint, ...]:
    return tuple(
        Endpoint(replica=f"{pool}-{n}", url="", base="tiny", engine="vllm", served_names=frozenset(), pool=pool)
        for n in range(count)
    )


def health(count: int = 4, policy: HealthPolicy = POLICY) -> ReplicaHealth:
    made = ReplicaHealth(policy)
    made.appeared(endpoints(count), 0.0)
    return made


A, B, C, D = (each.replica for each in endpoints(4))


def pauses(judged: ReplicaHealth, count: int) -> list[float]:
    """How long it is passed over each time, when every probe fails."""
    now, found = 0.0, []
    judged.failed(A, now)
    for _ in range(count):
        began = now
        while not judged.take_probe(A, now):
            now += 0.25
        found.append(now - began)
        judged.failed(A, now)
    return found


def test_one_failure_ejects_and_each_failed_probe_doubles_the_pause() -> None:
    assert pauses(health(), 6) == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0]


def test_failures_of_requests_from_before_an_ejection_do_not_lengthen_it() -> None:
    judged = health()
    for _ in range(64):
        judged.failed(A, 0.0)
    assert judged.share(A, 0.9) == 0.0
    assert judged.take_probe(A, 1.0)


def test_error_answers_eject_only_several_in_a_row() -> None:
    judged = health()
    for _ in range(5):
        judged.failed(A, 0.0, alive=True)
        judged.failed(A, 0.0, alive=True)
        judged.answered(A, 0.1, 0.0)
    assert judged.share(A, 0.0) == 1.0
    for _ in range(3):
        judged.failed(A, 1.0, alive=True)
    assert judged.share(A, 1.0) == 0.0


def test_first_bytes_that_nobody_has_looked_at_yet_count_before_a_later_failure() -> None:
    judged = health()
    for _ in range(5):
        judged.failed(A, 0.0, alive=True)
        judged.failed(A, 0.0, alive=True)
        judged.first_bytes.append(FirstByte(A, 0.1, 0.0))
    assert judged.share(A, 0.0) == 1.0


def test_a_replica_is_back_once_its_first_byte_was_looked_at() -> None:
    judged = health()
    judged.failed(A, 0.0)
    judged.first_bytes.append(FirstByte(A, 0.1, 1.1))
    assert judged.share(A, 1.1) == 0.0
    judged.judge_answers()
    assert judged.share(A, 1.1) > 0.0
    assert judged.first_bytes == []


def test_a_probe_that_is_answered_with_an_error_ejects_again() -> None:
    judged = health()
    judged.failed(A, 0.0)
    assert judged.take_probe(A, 1.0)
    judged.failed(A, 1.1, alive=True)
    assert not judged.take_probe(A, 2.5)
    assert judged.take_probe(A, 3.1)


def test_an_answer_to_a_request_from_before_the_ejection_does_not_end_it() -> None:
    judged = health()
    judged.failed(A, 5.0)
    judged.answered(A, 2.0, 5.5)
    assert judged.share(A, 5.5) == 0.0
    judged.answered(A, 0.2, 5.5)
    assert judged.share(A, 5.5) > 0.0


def test_after_a_probe_is_answered_its_share_grows_to_the_whole() -> None:
    judged = health()
    judged.failed(A, 0.0)
    assert judged.take_probe(A, 1.0)
    judged.answered(A, 0.1, 1.1)
    shares = [judged.share(A, now) for now in (1.1, 2.1, 2.9, 3.2)]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.1, 1.0)


def test_a_probe_that_was_lost_is_followed_by_another() -> None:
    judged = health()
    judged.failed(A, 0.0)
    assert [judged.take_probe(A, now) for now in (0.9, 1.0, 1.5, 2.0)] == [False, True, False, True]


def test_a_time_without_failures_shortens_the_next_pause() -> None:
    judged = health()
    pauses(judged, 3)  # now its pause is 8 s, from 7 s on
    assert judged.take_probe(A, 15.0)
    judged.answered(A, 0.1, 15.1)
    judged.failed(A, 15.1 + 25.0)  # two times ten seconds
    assert not judged.take_probe(A, 41.0)
    assert judged.take_probe(A, 42.2)


@given(st.lists(st.sampled_from("abcdefgh"), max_size=40), st.floats(0.0, 1.0))
def test_never_more_than_the_allowed_part_is_ejected(order: list[str], most: float) -> None:
    names = endpoints(8)
    judged = ReplicaHealth(replace(POLICY, most_ejected=most))
    judged.appeared(names, 0.0)
    for letter in order:
        judged.failed(names["abcdefgh".index(letter)].replica, 0.0)
        ejected = sum(judged.share(each.replica, 0.0) == 0.0 for each in names)
        assert 1 <= ejected <= max(1, most * 8)


def test_a_replica_that_is_new_starts_slowly_unless_the_gateway_is_the_new_one() -> None:
    judged = ReplicaHealth(POLICY)
    judged.appeared((), 0.0)
    judged.appeared(endpoints(2), 50.0)
    assert judged.share(A, 50.0) == judged.share(B, 50.0) == 1.0
    judged.appeared(endpoints(3), 60.0)
    assert [round(judged.share(C, now), 2) for now in (60.0, 62.0, 69.0, 70.0)] == [0.1, 0.2, 0.9, 1.0]
    assert judged.share(A, 60.0) == 1.0


def test_a_replica_that_left_is_forgotten() -> None:
    judged = health()
    judged.failed(D, 0.0)
    judged.appeared(endpoints(3), 0.1)
    assert judged.share(D, 0.1) == 1.0
    assert judged.shares(0.1) == {}


def answers(judged: ReplicaHealth, first_bytes: dict[str, float]) -> None:
    for number in range(30):
        for replica, seconds in first_bytes.items():
            judged.answered(replica, seconds, 10.0 + number / 10)


def test_a_replica_whose_first_bytes_come_late_gets_less_and_its_share_back_when_they_do_not() -> None:
    judged = health()
    answers(judged, {A: 0.1, B: 0.12, C: 0.11, D: 1.1})
    assert [judged.share(replica, 13.0) for replica in (A, B, C)] == [1.0, 1.0, 1.0]
    assert 0.4 < judged.share(D, 13.0) < 0.6
    for number in range(100):
        judged.answered(D, 0.1, 13.0 + number / 10)
    assert judged.share(D, 23.0) == 1.0


def test_of_two_nobody_knows_which_is_late_and_pools_are_not_compared_with_each_other() -> None:
    judged = ReplicaHealth(POLICY)
    large, small = endpoints(2, "large"), endpoints(2, "small")
    judged.appeared((*large, *small), 0.0)
    late = {large[0].replica: 5.0, large[1].replica: 90.0, small[0].replica: 0.01, small[1].replica: 0.01}
    answers(judged, late)
    assert judged.shares(13.0) == {}
