"""A route table follows from a snapshot, and unchanged parts stay the same objects from table to table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.route_table import build_table
from gateway.routing.routing import UNKNOWN_ROOM, RouteTable
from registry.database import Snapshot
from registry.states import ReplicaState, SlotState
from registry.types import Replica, Slot
from tests.gateway.replica_rows import replica_row

NOBODY = Snapshot(bases=(), adapters=(), revisions=(), rollouts=(), watched=(), forced=(), replicas=())


def replica(name: str, *ready: str, state: ReplicaState = ReplicaState.READY, pool: str = "default") -> Replica:
    return replica_row(
        name,
        engine="vllm",
        url=f"http://{name}",
        state=state,
        slots=tuple(Slot(served_name=served, state=SlotState.READY) for served in ready),
        pool=pool,
        room=32,
    )


def table_of(replicas: Sequence[Replica], before: RouteTable | None = None) -> RouteTable:
    ordered = tuple(sorted(replicas, key=lambda each: each.id))
    return build_table(replace(NOBODY, replicas=ordered), before)


loaded = st.dictionaries(st.sampled_from("rstuvw"), st.frozensets(st.sampled_from(["a@1", "a@2", "b@1"])))


@given(loaded)
def test_a_name_is_served_by_the_ready_replicas_that_report_it(has: dict[str, frozenset[str]]) -> None:
    table = table_of([replica(name, *sorted(ready)) for name, ready in has.items()])
    for served in ("a@1", "a@2", "b@1"):
        assert [each.replica for each in table.endpoints_of(served)] == sorted(n for n in has if served in has[n])
    assert [each.replica for each in table.endpoints_of("tiny")] == sorted(has)
    assert table.endpoints_of("c@1") == ()


@given(loaded, loaded)
def test_the_replicas_of_a_name_are_the_same_object_while_they_are_equal(
    one: dict[str, frozenset[str]], other: dict[str, frozenset[str]]
) -> None:
    before = table_of([replica(name, *sorted(ready)) for name, ready in one.items()])
    after = table_of([replica(name, *sorted(ready)) for name, ready in other.items()], before)
    for served in ("a@1", "a@2", "b@1", "tiny"):
        old, new = before.endpoints_of(served), after.endpoints_of(served)
        assert (old is new) == (old == new)


def test_names_that_the_same_replicas_serve_share_one_object() -> None:
    table = table_of([replica("r", "a@1", "b@1"), replica("s", "a@1", "b@1"), replica("t", "a@1", "b@1", "a@2")])
    assert table.endpoints_of("a@1") is table.endpoints_of("b@1")
    assert table.endpoints_of("a@1") is not table.endpoints_of("a@2")


def test_a_heartbeat_or_another_load_changes_nothing() -> None:
    row = replica("r", "a@1")
    before = table_of([row])
    after = table_of([replace(row, heartbeat_at=99.0, load=7)], before)
    assert after == before
    assert after.endpoints[0] is before.endpoints[0]


def test_only_ready_replicas_serve_and_make_room() -> None:
    table = table_of(
        [
            replica("r", "a@1"),
            replica("s", "a@1", state=ReplicaState.DRAINING),
            replace(replica("t", pool=""), room=0),
        ]
    )
    assert [each.replica for each in table.endpoints] == ["r", "t"]
    assert table.request_places == {"default": 32, "hand:tiny": UNKNOWN_ROOM}
