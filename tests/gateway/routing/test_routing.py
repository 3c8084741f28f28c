"""Names resolve to revisions, and conversations stay on their side."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ModelNotFound, NothingStable
from gateway.keys.access import unknown_model
from gateway.keys.caller import ANYBODY
from gateway.routing.routing import Evidence, Route, RouteTable, Target, choose_side, resolve, sticky_key
from registry.rollouts.tally import Side

ROUTE = Route(
    adapter="support", base="tiny", stable="support@1", canary="support@2", canary_weight=25, rollout_id="ro-1", step=1
)
TABLE = RouteTable(
    bases=frozenset({"tiny"}),
    routes={"support": ROUTE, "young": Route(adapter="young", base="tiny", stable=None)},
    pinned={"support@1": "tiny", "support@2": "tiny"},
    aliases={"ft:tiny:lorry:support:abc": "support@1"},
)
SIDES = [Side.CANARY, Side.STABLE]
KEYS = [f"conversation {number}" for number in range(4000)]


def on_canary(route: Route) -> set[str]:
    return {key for key in KEYS if choose_side(route, key) is Side.CANARY}


def test_raising_the_weight_never_moves_a_caller_back_to_stable() -> None:
    assert on_canary(ROUTE) < on_canary(replace(ROUTE, canary_weight=50))


def test_the_share_of_the_canary_is_its_weight() -> None:
    # 4,000 draws at 25 %: four standard deviations are 110
    assert abs(len(on_canary(ROUTE)) - 1000) < 110


@given(st.text(), st.integers(1, 99))
def test_a_conversation_is_answered_by_the_same_side_each_time(key: str, weight: int) -> None:
    route = replace(ROUTE, canary_weight=weight)
    assert choose_side(route, key) is choose_side(route, key)


@pytest.mark.parametrize(
    ("name", "served_name"),
    [("tiny", "tiny"), ("support@2", "support@2"), ("ft:tiny:lorry:support:abc", "support@1")],
)
def test_bases_pinned_names_and_aliases_are_not_subject_to_the_route(name: str, served_name: str) -> None:
    assert {resolve(TABLE, name, key) for key in KEYS[:50]} == {Target(served_name=served_name)}


def table_of(route: Route) -> RouteTable:
    return replace(TABLE, routes={"support": route})


@pytest.mark.parametrize(
    "route", [ROUTE, replace(ROUTE, canary=None, canary_weight=0), replace(ROUTE, canary_weight=0)]
)
def test_a_table_keeps_the_targets_of_names_with_one_side_and_no_longer_than_itself(route: Route) -> None:
    table = table_of(route)
    for name in ("tiny", "support@2", "ft:tiny:lorry:support:abc", "support", "unknown", "tiny"):
        with suppress(ModelNotFound):
            resolve(table, name, "key", None, "ann")
    sure = {"tiny", "support@2", "ft:tiny:lorry:support:abc"}
    assert table.targets.keys() == (sure if route.canary else sure | {"support"})
    fresh = table_of(route)
    assert fresh.targets == {}
    for name, target in table.targets.items():
        assert all(resolve(fresh, name, key, side) == target for key in KEYS[:20] for side in (None, *SIDES))
    assert replace(table, aliases={}).targets == {}


def test_what_the_route_chose_is_evidence_of_its_side_and_step() -> None:
    for key in KEYS[:200]:
        side = choose_side(ROUTE, key)
        target = resolve(TABLE, "support", key)
        assert target.served_name == {Side.CANARY: "support@2", Side.STABLE: "support@1"}[side]
        assert target.evidence == Evidence(adapter="support", rollout_id="ro-1", step=1, side=side)
    promoted = Route(adapter="support", base="tiny", stable="support@2", rollout_id="ro-1", step=3, is_promoted=True)
    watched = {resolve(table_of(promoted), "support", key).evidence for key in KEYS[:50]}
    assert watched == {Evidence(adapter="support", rollout_id="ro-1", step=3, side=Side.CANARY)}
    unwatched = replace(ROUTE, rollout_id=None, canary_weight=0)
    assert {resolve(table_of(unwatched), "support", key).evidence for key in KEYS[:50]} == {None}


@given(key=st.text(), weight=st.integers(0, 99), header=st.sampled_from([None, *SIDES]), held=st.sampled_from(SIDES))
def test_a_header_goes_over_a_held_key_and_that_over_the_hash_while_a_rollout_is_open(
    key: str, weight: int, header: Side | None, held: Side
) -> None:
    route = replace(ROUTE, canary_weight=weight, forced={key: held})
    target = resolve(table_of(route), "support", key, header)
    assert target.served_name == {Side.CANARY: "support@2", Side.STABLE: "support@1"}[header or held]
    assert target.evidence is None
    aborted = replace(route, canary=None, canary_weight=0, rollout_id=None)
    assert resolve(table_of(aborted), "support", key, header).served_name == "support@1"


@given(key=st.text(min_size=1), weight=st.integers(0, 99), held=st.sampled_from(SIDES))
def test_an_api_key_is_held_with_all_its_conversations_but_those_that_are_held_themselves(
    key: str, weight: int, held: Side
) -> None:
    other = Side.STABLE if held is Side.CANARY else Side.CANARY
    route = replace(ROUTE, canary_weight=weight, forced={"api-key:tester": held, "mine": other})
    names = {Side.CANARY: "support@2", Side.STABLE: "support@1"}
    target = resolve(table_of(route), "support", key, None, "tester")
    if key not in route.forced:
        assert (target.served_name, target.evidence) == (names[held], None)
        assert resolve(table_of(route), "support", key, None, "chat").evidence is not None
    assert resolve(table_of(route), "support", "mine", None, "tester").served_name == names[other]
    assert resolve(table_of(route), "support", "mine", held, "tester").served_name == names[held]


@given(st.text(), st.integers(0, 100), st.integers(0, 100))
def test_a_conversation_moves_only_from_stable_to_canary_until_the_rollout_ends(key: str, one: int, other: int) -> None:
    low, high = sorted((one, other))
    if choose_side(replace(ROUTE, canary_weight=low), key) is Side.CANARY:
        assert choose_side(replace(ROUTE, canary_weight=high), key) is Side.CANARY
    assert choose_side(replace(ROUTE, canary_weight=0), key) is Side.STABLE


@pytest.mark.long
def test_another_process_puts_every_conversation_on_the_same_side() -> None:
    program = (
        "import sys; from gateway.routing.routing import *\n"
        "route = Route(adapter='support', base='tiny', stable='support@1', canary='support@2', canary_weight=25)\n"
        "print(*(choose_side(route, key) for key in sys.stdin.read().split('\\n')))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[3],
        env={"PYTHONHASHSEED": "7"},
        input="\n".join(KEYS),
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.split() == [str(choose_side(ROUTE, key)) for key in KEYS]


def test_an_unknown_name_is_answered_with_the_names_there_are() -> None:
    with pytest.raises(ModelNotFound, match="no model of the name 'suport'"):
        resolve(TABLE, "suport", "key")
    message = str(unknown_model(ANYBODY, TABLE, "suport"))
    assert "Did you mean 'support'? Models here: support, support@1, support@2" in message


def test_an_adapter_without_a_stable_revision_says_so() -> None:
    with pytest.raises(NothingStable, match="first one is still loading"):
        resolve(TABLE, "young", "key")


def test_the_key_is_what_the_caller_names_before_what_was_said() -> None:
    body = {"user": "u", "messages": [{"role": "user", "content": "hi"}]}
    assert sticky_key(body, "session", "") == "session"
    assert sticky_key(body, None, "") == "u"
    assert sticky_key({"prompt_cache_key": "c"}, None, "") == "c"


def test_later_turns_of_a_conversation_have_the_key_of_its_first() -> None:
    first = {"messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]}
    later = {
        "messages": [*first["messages"], {"role": "assistant", "content": "yes?"}, {"role": "user", "content": "so"}]
    }
    assert sticky_key(first, None, "key") == sticky_key(later, None, "key")
    assert sticky_key(first, None, "key") != sticky_key(first, None, "another key")
