"""Revisions belong on every replica while they fit, and are spread by rendezvous hashing where they do not."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.routing.placement import homes_of, wanted_in
from gateway.routing.placement_seats import LEAST_COPIES, Need, Placement, place
from registry.database import Snapshot
from registry.states import AdapterKind, ReplicaState, RevisionState
from registry.types import Adapter, Replica, Revision, ServedCheckpoint, Use
from tests.gateway.replica_rows import replica_row

WARM_SINCE = 500.0


def revision(name: str, number: int = 1, created_at: float = 1.0) -> Revision:
    return Revision(
        adapter=name,
        number=number,
        state=RevisionState.READY,
        artifact=f"{name}{number}",
        base="tiny",
        base_digest="",
        rank=8,
        target_modules=("q_proj",),
        alias=None,
        job_id=None,
        owner="me",
        created_at=created_at,
    )


def adapter(name: str, stable: int | None = 1, previous: int | None = None, since: float = 1.0) -> Adapter:
    return Adapter(name=name, base="tiny", stable=stable, previous_stable=previous, stable_since=since, created_at=1.0)


def replica(name: str, capacity: int = 4, state: ReplicaState = ReplicaState.READY) -> Replica:
    return replica_row(name, url="", state=state, capacity=capacity)


def snapshot(
    adapters: Sequence[Adapter],
    revisions: Sequence[Revision],
    replicas: Sequence[Replica],
    uses: Sequence[Use] = (),
) -> Snapshot:
    return Snapshot(
        bases=(),
        adapters=tuple(adapters),
        revisions=tuple(revisions),
        rollouts=(),
        watched=(),
        forced=(),
        replicas=tuple(replicas),
        uses=tuple(uses),
    )


def names(found: Sequence[Revision]) -> list[str]:
    return [each.served_name for each in found]


def pinned(count: int) -> list[Need]:
    """Revisions that nobody is routed to."""
    return [Need(revision=revision(f"a{n}"), rank=2, recency=float(-n), traffic=0) for n in range(count)]


def counts(placement: Placement) -> Counter[str]:
    """How many revisions each replica has to have."""
    return Counter(name for replicas in placement.homes.values() for name in replicas)


needs = st.lists(
    st.builds(
        Need,
        revision=st.integers(0, 40).map(lambda n: revision(f"a{n}")),
        rank=st.integers(0, 2),
        recency=st.floats(0, 1000),
        traffic=st.sampled_from([0, 1, 2, 4, 8, 16, 64]),
        awaited_since=st.sampled_from([None, None, 900.0, 901.0]),
        in_rollout=st.booleans(),
    ),
    max_size=30,
    unique_by=lambda need: need.name,
).map(lambda found: sorted(found, key=lambda need: need.order))
rooms = st.dictionaries(st.integers(0, 9).map(lambda n: f"r{n}"), st.integers(1, 8), min_size=1, max_size=6)


@pytest.mark.long
@given(needs, rooms)
@settings(max_examples=3 * settings().max_examples)
def test_no_replica_gets_more_than_it_has_places_and_each_has_what_must_be_there(
    wanted: list[Need], places: dict[str, int]
) -> None:
    placement = place(wanted, places)
    assert all(count <= places[name] for name, count in counts(placement).items())
    for replica, count in places.items():
        held = [need.name for need in placement.wanted_in(replica)]
        assert len(held) == len(set(held)) <= count
        assert {name for name, homes in placement.homes.items() if replica in homes} <= set(held)


@pytest.mark.long
@given(needs, rooms)
@settings(max_examples=3 * settings().max_examples)
def test_each_is_somewhere_while_there_are_places(wanted: list[Need], places: dict[str, int]) -> None:
    placement = place(wanted, places)
    # A copy that many requests need goes before what nobody asks for, so traffic of one may leave another nowhere.
    if len(wanted) <= sum(places.values()) and all(need.rank and need.traffic < 2 for need in wanted):
        assert all(placement.homes.get(need.name) for need in wanted)
    awaited = [need for need in wanted if need.awaited_since is not None]
    if len(awaited) <= min(places.values()):
        assert all(placement.homes.get(need.name) for need in awaited)


@given(needs, rooms, st.integers(0, 9))
def test_what_a_replica_has_loaded_stays_for_what_is_needed_alike(
    wanted: list[Need], places: dict[str, int], least: int
) -> None:
    placement = place(wanted, places)
    for replica, count in places.items():
        had = [need.name for need in placement.wanted_in(replica)]
        # Demand of others that is lost and found again loads nothing.
        quieter = [need for index, need in enumerate(wanted) if need.name in had or index % 10 != least]
        meanwhile = [need.name for need in place(quieter, places).wanted_in(replica, had)]
        assert len(meanwhile) >= min(count, len(had))
        again = [need.name for need in placement.wanted_in(replica, had)]
        assert again == had


@given(needs, rooms)
def test_the_answer_depends_on_no_order_of_the_replicas(wanted: list[Need], places: dict[str, int]) -> None:
    turned = dict(reversed(places.items()))
    assert place(wanted, places).homes == place(wanted, turned).homes


def test_while_all_fit_everywhere_all_are_everywhere() -> None:
    placement = place(pinned(4), {"r1": 4, "r2": 5})
    assert set(placement.homes.values()) == {frozenset({"r1", "r2"})}


@pytest.mark.parametrize("before", [3, 5, 9])
def test_a_replica_that_comes_takes_its_share_and_moves_nothing_between_the_others(before: int) -> None:
    wanted = pinned(400)
    places = {f"r{number}": 400 // before + 100 for number in range(before)}
    old = place(wanted, places).homes
    new = place(wanted, places | {"late": 400 // before + 100}).homes
    moved = [name for name in old if old[name] != new[name]]
    assert all(new[name] == frozenset({"late"}) for name in moved)
    # binomial(400, 1/n): four standard deviations
    share = 1 / (before + 1)
    assert abs(len(moved) - 400 * share) < 4 * (400 * share * (1 - share)) ** 0.5


def test_a_replica_with_twice_the_places_gets_twice_the_adapters() -> None:
    found = counts(place(pinned(600), {"small": 500, "large": 1000, "other": 500}))
    # binomial(600, 1/2): four standard deviations are 49
    assert abs(found["large"] - 300) < 49


def test_a_rank_goes_only_where_it_is_taken_and_is_not_crowded_out_there() -> None:
    wide = [
        Need(revision=dataclasses.replace(revision(f"w{n}"), rank=64), rank=2, recency=0.0, traffic=0) for n in (1, 2)
    ]
    places = {"narrow": 40, "broad": 4, "any": 4}
    placement = place([*wide, *pinned(40)], places, {"narrow": 16, "broad": 64})
    assert all(placement.homes[need.name] <= {"broad", "any"} for need in wide)
    assert all(placement.homes[need.name] for need in wide)
    assert sum(map(len, placement.homes.values())) == 42


def test_where_all_fit_a_replica_that_takes_no_such_rank_is_left_out() -> None:
    wide = Need(revision=dataclasses.replace(revision("w"), rank=64), rank=0, recency=0.0, traffic=0)
    assert place([wide], {"r1": 4, "r2": 4}, {"r1": 16}).homes[wide.name] == {"r2"}


def test_a_rank_that_no_replica_takes_is_tried_so_that_its_failure_is_reported() -> None:
    wide = Need(revision=dataclasses.replace(revision("w"), rank=128), rank=0, recency=0.0, traffic=0)
    assert place([wide], {"r1": 4, "r2": 4}, {"r1": 16, "r2": 64}).homes[wide.name] == {"r1", "r2"}


def test_what_is_routed_has_two_copies_and_more_with_its_traffic() -> None:
    quiet = Need(revision=revision("quiet"), rank=0, recency=1.0, traffic=0)
    busy = Need(revision=revision("busy"), rank=0, recency=1.0, traffic=32)
    placement = place([quiet, busy, *pinned(20)], {f"r{number}": 4 for number in range(6)})
    assert len(placement.homes["quiet@1"]) == LEAST_COPIES
    assert len(placement.homes["busy@1"]) == 4


def test_busy_adapters_go_by_a_replica_that_has_its_share() -> None:
    wanted = [Need(revision=revision(f"a{n}"), rank=2, recency=0.0, traffic=4) for n in range(24)]
    placement = place(wanted, {f"r{number}": 20 for number in range(3)})
    # 24 equal ones on 3 replicas: 8 each, a quarter above at most
    assert max(counts(placement).values()) <= 10


def test_the_least_recently_used_makes_room_and_what_is_routed_never_does() -> None:
    revisions = [revision("support", number, created_at=float(number)) for number in range(1, 6)]
    uses = [Use(served_name="support@2", used_at=900.0, in_flight=1)]
    one = replica("r1", capacity=3)
    wanted = names(wanted_in(snapshot([adapter("support")], revisions, [one], uses), one, warm_since=WARM_SINCE))
    assert wanted == ["support@1", "support@2", "support@5"]
    uses.append(Use(served_name="support@3", used_at=901.0, in_flight=1))
    wanted = names(wanted_in(snapshot([adapter("support")], revisions, [one], uses), one, warm_since=WARM_SINCE))
    assert wanted == ["support@1", "support@3", "support@2"]


def test_a_former_stable_is_kept_before_those_by_pinned_name() -> None:
    revisions = [revision("support", number, created_at=float(number)) for number in range(1, 6)]
    one = replica("r1", capacity=2)
    changed = adapter("support", stable=2, previous=1, since=WARM_SINCE + 1)
    assert names(wanted_in(snapshot([changed], revisions, [one]), one, warm_since=WARM_SINCE)) == [
        "support@2",
        "support@1",
    ]


def test_an_adapter_without_a_stable_revision_gets_its_first_one_placed() -> None:
    revisions = [revision("support", number, created_at=float(number)) for number in range(1, 6)]
    one = replica("r1", capacity=1)
    found = snapshot([adapter("support", stable=None)], revisions, [one])
    assert names(wanted_in(found, one, warm_since=WARM_SINCE)) == ["support@1"]
    assert homes_of(found, "support@1", "tiny") == {"r1"}


def test_nothing_is_let_go_for_a_replica_that_is_not_ready_yet() -> None:
    adapters = [adapter(f"a{n}") for n in range(12)]
    revisions = [revision(each.name) for each in adapters]
    old = [replica(f"r{number}", capacity=10) for number in range(2)]
    starting = replica("late", capacity=10, state=ReplicaState.STARTING)
    alone = snapshot(adapters, revisions, old)
    meanwhile = snapshot(adapters, revisions, [*old, starting])
    for each in old:
        before = names(wanted_in(alone, each, warm_since=WARM_SINCE))
        assert names(wanted_in(meanwhile, each, warm_since=WARM_SINCE)) == before
    after = snapshot(adapters, revisions, [*old, replica("late", capacity=10)])
    will_have = names(wanted_in(meanwhile, starting, warm_since=WARM_SINCE))
    assert will_have == names(wanted_in(after, replica("late", capacity=10), warm_since=WARM_SINCE))


def test_every_ready_revision_is_somewhere_after_a_replica_has_left() -> None:
    adapters = [adapter(f"a{n}") for n in range(10)]
    revisions = [revision(each.name) for each in adapters]
    left = [replica("r1", capacity=8), replica("r2", capacity=8)]
    found = snapshot(adapters, revisions, left)
    held = {name for each in left for name in names(wanted_in(found, each, warm_since=WARM_SINCE))}
    assert held == {each.served_name for each in revisions}


def test_a_replica_without_places_changes_nothing_for_the_others() -> None:
    wanted = pinned(4)
    placement = place(wanted, {"r1": 4, "r2": 4, "none": 0})
    assert placement == place(wanted, {"r1": 4, "r2": 4})
    assert placement.wanted_in("none") == []


def test_replicas_of_another_base_have_no_part_in_it() -> None:
    found = snapshot([adapter("support")], [revision("support")], [replica("r1")])
    assert homes_of(found, "support@1", "another") == frozenset()


def checkpoint(name: str, step: int, *, is_result: bool = False) -> ServedCheckpoint:
    of = revision(name)
    fields = {each.name: getattr(of, each.name) for each in dataclasses.fields(of)}
    known_as = of.served_name if is_result else f"{name}@1f2e3d4c-step-{step}"
    fields |= {"step": step, "kind": AdapterKind.CHAT, "known_as": known_as, "is_result": is_result}
    return ServedCheckpoint(**fields, expires_at=None if is_result else 2000.0)


def test_what_requests_wait_for_gets_the_place_of_what_nobody_asks_for() -> None:
    adapters = [adapter(name) for name in ("busy", "idle", "other")]
    revisions = [*(revision(name) for name in ("busy", "idle", "other")), revision("busy", 2, created_at=9.0)]
    one = replica("r1", capacity=3)
    uses = [
        Use(served_name="busy@1", used_at=990.0, in_flight=4),
        Use(served_name="other@1", used_at=990.0, in_flight=1),
    ]

    def wanted() -> list[str]:
        return names(wanted_in(snapshot(adapters, revisions, [one], uses), one, warm_since=WARM_SINCE))

    assert sorted(wanted()) == ["busy@1", "idle@1", "other@1"]
    uses.append(Use(served_name="busy@2", used_at=991.0, in_flight=1, awaited_since=991.0))
    assert wanted() == ["busy@2", "busy@1", "other@1"]
    uses[-1] = Use(served_name="busy@2", used_at=991.0, in_flight=1)  # it has had its answers, and is still used
    assert "idle@1" not in wanted()
    uses[-1] = Use(served_name="busy@2", used_at=991.0, in_flight=0)
    assert "busy@2" not in wanted()


def test_of_what_is_needed_alike_the_loaded_copy_stays_and_what_many_ask_for_does_not_wait() -> None:
    def asked(number: int, demand: float) -> Need:
        return Need(
            revision=revision(f"a{number}"), rank=0, recency=1.0, traffic=1 if demand <= 1 else 8, demand=demand
        )

    few = [asked(number, 0.1 * number) for number in range(1, 5)]
    ranked = sorted(few, key=lambda need: need.order)
    assert [need.name for need in place(ranked, {"r1": 2}).wanted_in("r1")] == ["a4@1", "a3@1"]
    # Noise made others busier, which are loaded when somebody asks for them and not before.
    assert {need.name for need in place(ranked, {"r1": 2}).wanted_in("r1", ["a1@1", "a2@1"])} == {"a1@1", "a2@1"}
    crowd = sorted([*few, asked(9, 6.0)], key=lambda need: need.order)
    assert [need.name for need in place(crowd, {"r1": 2}).wanted_in("r1", ["a1@1", "a2@1"])] == ["a9@1", "a2@1"]


def test_where_not_all_have_a_place_popular_ones_still_have_as_many_copies_as_their_requests_need() -> None:
    popular = Need(revision=revision("popular"), rank=0, recency=1.0, traffic=64, demand=50.0)
    others = [Need(revision=revision(f"a{n}"), rank=0, recency=1.0, traffic=1, demand=0.1) for n in range(200)]
    wanted = sorted([popular, *others], key=lambda need: need.order)
    homes = place(wanted, {f"r{number}": 10 for number in range(10)}).homes
    assert len(homes["popular@1"]) == 8
    assert sum(map(len, homes.values())) == 100


def test_where_all_are_busy_those_that_wait_take_turns() -> None:
    revisions = [revision(f"a{number}") for number in range(3)]
    adapters = [adapter(each.adapter) for each in revisions]
    one = replica("r1", capacity=1)

    def wanted(*since: float | None) -> list[str]:
        uses = [
            Use(served_name=each.served_name, used_at=990.0, in_flight=4, awaited_since=at)
            for each, at in zip(revisions, since, strict=True)
        ]
        return names(wanted_in(snapshot(adapters, revisions, [one], uses), one, warm_since=WARM_SINCE))

    assert wanted(None, 981.0, 980.0) == ["a2@1"]
    assert wanted(None, 981.0, None) == ["a1@1"]


def test_a_side_of_a_rollout_does_not_make_room_for_what_is_busier() -> None:
    quiet = Need(revision=revision("quiet"), rank=0, recency=1.0, traffic=0, in_rollout=True)
    busy = [Need(revision=revision(f"a{n}"), rank=2, recency=9.0, traffic=4) for n in range(3)]
    wanted = sorted([quiet, *busy], key=lambda need: need.order)
    assert place(wanted, {"r1": 2}).homes["quiet@1"] == frozenset({"r1"})


def test_a_checkpoint_is_loaded_once_it_is_asked_for_and_never_stands_for_its_adapter() -> None:
    one = replica("r1")
    seen = dataclasses.replace(
        snapshot([adapter("support")], [revision("support")], [one]),
        checkpoints=(checkpoint("support", 5), checkpoint("support", 10), checkpoint("support", 15, is_result=True)),
    )
    assert names(wanted_in(seen, one, warm_since=WARM_SINCE)) == ["support@1"]
    asked = dataclasses.replace(seen, uses=(Use(served_name="support@1f2e3d4c-step-5", used_at=990.0, in_flight=0),))
    assert names(wanted_in(asked, one, warm_since=WARM_SINCE)) == ["support@1", "support@1f2e3d4c-step-5"]
    first_job = dataclasses.replace(asked, adapters=(), revisions=())  # it has not published the adapter yet
    assert names(wanted_in(first_job, one, warm_since=WARM_SINCE)) == ["support@1f2e3d4c-step-5"]
