"""Each request has a place of its own, and no replica has much more than the others."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from math import ceil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.balancing.balancing import Balancer, affinity_of
from gateway.balancing.replica_health import HealthPolicy, ReplicaHealth
from gateway.routing.routing import Endpoint

PREFIXES = [affinity_of("support@1", f"prompt {number}".encode()) for number in range(2000)]
BOUND = 1.25

keys = st.integers(0, 2**64 - 1)


def endpoint(replica: str) -> Endpoint:
    return Endpoint(
        replica=replica, url=f"http://{replica}", base="tiny", engine="vllm", served_names=frozenset({"tiny"})
    )


def endpoints(count: int) -> tuple[Endpoint, ...]:
    return tuple(endpoint(f"r{number:04}") for number in range(count))


def chosen(balancer: Balancer, among: tuple[Endpoint, ...], affinity: int, now: float = 0.0) -> str:
    found = balancer.choose(among, affinity, (), now)
    assert found is not None
    return found.replica


def places(balancer: Balancer, among: tuple[Endpoint, ...], now: float = 0.0) -> dict[int, str]:
    """Where each prefix belongs while nothing is in flight."""
    return {affinity: chosen(balancer, among, affinity, now) for affinity in PREFIXES}


@settings(max_examples=60)
@given(st.integers(1, 40), st.lists(st.tuples(keys, st.booleans()), max_size=150), st.sampled_from([1.05, 1.25, 2.0]))
def test_nobody_ever_has_more_than_the_bound_times_the_average(
    count: int, moves: list[tuple[int, bool]], bound: float
) -> None:
    among, balancer = endpoints(count), Balancer(ReplicaHealth(), bound)
    running: list[str] = []
    for affinity, ends in moves:
        if ends and running:
            balancer.end(running.pop(affinity % len(running)), "support@1")
            continue
        replica = chosen(balancer, among, affinity % 5)  # five prefixes only, so that the bound is what spreads them
        assert balancer.in_flight(replica) + 1 <= ceil(bound * (len(running) + 1) / count)
        balancer.begin(replica, "support@1")
        running.append(replica)
    assert Counter(running) == {each.replica: n for each in among if (n := balancer.in_flight(each.replica))}


@given(st.integers(1, 30), keys)
def test_what_begins_alike_goes_to_the_same_replica_while_the_load_allows(count: int, affinity: int) -> None:
    balancer, among = Balancer(ReplicaHealth()), endpoints(count)
    first = chosen(balancer, among, affinity)
    for _ in range(3):
        balancer.begin(first, "support@1")
        balancer.end(first, "support@1")
        assert chosen(balancer, among, affinity) == first


def test_a_replica_that_leaves_moves_only_what_was_its_own() -> None:
    among, balancer = endpoints(10), Balancer(ReplicaHealth())
    before = places(balancer, among)
    gone = among[3].replica
    after = places(balancer, tuple(each for each in among if each.replica != gone))
    assert {affinity for affinity in PREFIXES if before[affinity] != after[affinity]} == {
        affinity for affinity in PREFIXES if before[affinity] == gone
    }


def test_a_replica_that_comes_takes_its_part_and_moves_nothing_between_the_others() -> None:
    among, balancer = endpoints(9), Balancer(ReplicaHealth())
    before, after = places(balancer, among), places(balancer, (*among, endpoint("new")))
    moved = [affinity for affinity in PREFIXES if before[affinity] != after[affinity]]
    assert {after[affinity] for affinity in moved} == {"new"}
    assert 0.05 < len(moved) / len(PREFIXES) < 0.18


def test_every_replica_has_its_part_of_the_prefixes() -> None:
    parts = Counter(places(Balancer(ReplicaHealth()), endpoints(10)).values())
    assert set(parts) == {each.replica for each in endpoints(10)}
    # with 64 points each, a part's standard deviation is an eighth of the part
    assert max(parts.values()) < 1.5 * len(PREFIXES) / 10


def test_equal_prefixes_of_different_revisions_are_told_apart() -> None:
    assert affinity_of("support@1", b"hello") != affinity_of("support@2", b"hello")
    assert affinity_of("a", b"bc") != affinity_of("ab", b"c")


@pytest.mark.long
def test_every_gateway_sends_a_prefix_to_the_same_replica() -> None:
    program = (
        "from tests.gateway.balancing.test_balancing import *\n"
        "print(*places(Balancer(ReplicaHealth()), endpoints(10)).values())"
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[3],
        env={"PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.split() == list(places(Balancer(ReplicaHealth()), endpoints(10)).values())


def test_a_replica_that_was_tried_is_tried_again_only_when_there_is_no_other() -> None:
    among, balancer = endpoints(3), Balancer(ReplicaHealth())
    tried: list[str] = []
    for _ in among:
        found = balancer.choose(among, PREFIXES[0], tried, 0.0)
        assert found is not None
        assert found.replica not in tried
        tried.append(found.replica)
    assert balancer.choose(among, PREFIXES[0], tried, 0.0) in among
    assert balancer.choose((), PREFIXES[0], (), 0.0) is None


def test_a_request_of_an_ejected_replica_goes_on_and_comes_back_when_its_probe_is_answered() -> None:
    health, among = ReplicaHealth(HealthPolicy(pause_s=1.0, slow_start_s=10.0)), endpoints(4)
    balancer = Balancer(health)
    health.appeared(among, 0.0)
    home = chosen(balancer, among, PREFIXES[0], 0.0)
    health.failed(home, 0.0)
    assert home not in places(balancer, among, 0.5).values()
    # after the pause one request, and only one, tries it
    probes = [chosen(balancer, among, PREFIXES[0], 1.5) for _ in range(5)]
    assert probes.count(home) == 1
    health.answered(home, 0.01, 1.6)
    assert chosen(balancer, among, PREFIXES[0], 60.0) == home


def test_ejected_replicas_still_answer_when_all_are_ejected() -> None:
    health, among = ReplicaHealth(HealthPolicy(most_ejected=1.0)), endpoints(2)
    health.appeared(among, 0.0)
    for each in among:
        health.failed(each.replica, 0.0)
    assert Balancer(health).choose(among, PREFIXES[0], (), 0.1) in among
    assert Balancer(health).choose(among, PREFIXES[0], {among[0].replica}, 0.1) == among[1]


def test_a_new_replica_gets_more_and_more_of_its_prefixes_and_none_goes_back_and_forth() -> None:
    health, before, among = ReplicaHealth(HealthPolicy(slow_start_s=10.0)), endpoints(4), endpoints(5)
    balancer = Balancer(health)
    health.appeared(before, 0.0)
    health.appeared(among, 100.0)
    new = among[-1].replica
    had: set[int] = set()
    for now, least in ((100.0, 0.02), (105.0, 0.3), (109.0, 0.7), (110.1, 1.0)):
        has = {affinity for affinity, replica in places(balancer, among, now).items() if replica == new}
        assert had <= has
        had = has
        whole = {a for a, replica in places(Balancer(ReplicaHealth()), among).items() if replica == new}
        assert least * len(whole) <= len(has) <= len(whole)
    assert had == whole


def test_the_circle_of_the_same_replicas_is_kept_when_their_endpoints_change() -> None:
    balancer, before = Balancer(ReplicaHealth()), endpoints(12)
    home = chosen(balancer, before, PREFIXES[0])
    balancer.begin(home, "support@1")
    after = tuple(
        Endpoint(
            replica=each.replica,
            url=each.url,
            base=each.base,
            engine=each.engine,
            served_names=each.served_names | {"new"},
        )
        for each in before
    )
    found = balancer.choose(after, PREFIXES[0], (), 0.0)
    assert found in after
    balancer.end(home, "support@1")
    assert balancer.in_flight(home) == 0
    assert balancer.in_flight("never seen") == 0


def test_who_asked_to_be_told_is_told_of_every_request_more_until_it_is_enough() -> None:
    balancer = Balancer(ReplicaHealth())
    seen: list[int] = []
    balancer.watch("r0", lambda: seen.append(balancer.in_flight("r0")))
    balancer.begin("r0", "support@1")
    balancer.begin("r1", "support@1")
    balancer.end("r0", "support@1")
    balancer.begin("r0", "support@1")
    balancer.begin("r0", "support@1")
    assert seen == [1, 1, 2]
    balancer.watch("r0", None)
    balancer.begin("r0", "support@1")
    assert seen == [1, 1, 2]


def test_names_are_reported_with_their_requests_in_flight_and_once_more_while_they_have_some() -> None:
    balancer = Balancer(ReplicaHealth())
    for replica, served_name in (("r0", "a@1"), ("r1", "a@1"), ("r0", "b@1")):
        balancer.begin(replica, served_name)
    balancer.end("r0", "b@1")
    balancer.end("r1", "a@1")
    assert balancer.in_flight_by_name() == {"a@1": 1}
    assert balancer.take_used() == {"a@1", "b@1"}
    assert balancer.take_used() == {"a@1"}
    balancer.end("r0", "a@1")
    assert balancer.take_used() == {"a@1"}  # it was in flight after the last call
    assert balancer.take_used() == set()
