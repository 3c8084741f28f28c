"""No client sees a copy for the canary or waits for it, and both answers are counted or neither."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import httpx2
import orjson
import pytest
import sqlalchemy as sa

from gateway.evidence.comparison import decided, preference_in, question
from gateway.evidence.shadow import TokenBudget
from registry.rollouts.rollout import Rollout
from registry.rollouts.tally import Cell, Side, Tally, comparable
from registry.serving.serving_tables import revision_uses
from tests.gateway.rollouts.rollout_scene import CHAT, SETTINGS, RolloutScene, said, streamed
from tests.stub_engine import Script, StubHandler, answer, by_model, drop, stream_then_drop
from tests.waiting import wait_for


@pytest.fixture
def rollout(scene: RolloutScene) -> Rollout:
    """Every request of stable's is to be copied."""
    return scene.start("shadow:100")


class Gate:
    """Holds an engine's answers back until it is opened."""

    def __init__(self, script: Script) -> None:
        self._opened = threading.Event()
        self.reached = threading.Event()
        self._script = script

    def __call__(self, handler: StubHandler) -> None:
        self.reached.set()
        self._opened.wait(20)
        self._script(handler)

    def open(self) -> None:
        self._opened.set()


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate(said("canary"))
    yield made
    made.open()


def ask(client: httpx2.Client, **fields: object) -> str:
    """The answer that a client gets, and that it comes from stable."""
    told = client.post("/v1/chat/completions", json=CHAT | fields)
    assert (told.status_code, told.headers["x-lorry-revision"]) == (200, "support@1")
    return told.text


def test_a_copy_goes_to_the_canary_at_the_same_replica_and_both_answers_are_counted(
    scene: RolloutScene, rollout: Rollout
) -> None:
    scene.add_replica(said("nobody"), loaded=())
    scene.add_replica(by_model(r1=streamed("stable", "says"), r2=streamed("canary", finish="length")))
    assert "canary" not in ask(scene.client(), stream=True)
    canary = scene.counted(rollout, Side.SHADOW_CANARY, 1)
    stable = scene.counted(rollout, Side.SHADOW_STABLE, 1)
    assert scene.counted(rollout, Side.STABLE, 1) == stable
    assert (canary.requests, canary.length_finishes, canary.output_tokens) == (1, 1, 1)
    assert (stable.requests, stable.length_finishes, stable.output_tokens) == (1, 0, 2)
    assert {(cell.step, cell.replica) for cell in scene.cells(rollout)} == {(0, "r1")}
    sent, copied = (orjson.loads(body) for body in scene.engines[1].bodies)
    assert (sent["model"], copied) == ("support@1", {**sent, "model": "support@2"})
    assert [head.get("x-lorry-shadow") for head in scene.engines[1].heads] == [None, "1"]


def test_a_copy_has_the_values_that_only_some_readers_of_json_take(scene: RolloutScene, rollout: Rollout) -> None:
    engine = scene.add_replica(said("well"))
    deep = json.loads("[" * 300 + "]" * 300)
    ask(scene.client(), seed=2**64, logit_bias={"1": -(2**70)}, metadata=deep)
    assert scene.counted(rollout, Side.SHADOW_CANARY, 1).requests == 1
    sent, copied = (json.loads(body) for body in engine.bodies)
    assert (sent["seed"], copied) == (2**64, {**sent, "model": "support@2"})


def test_without_a_shadow_step_nothing_is_copied(scene: RolloutScene) -> None:
    engine = scene.add_replica(said("stable"))
    rollout = scene.start("shadow:100", 50)
    scene.registry.rollouts.advance(rollout.id, 0, reason="test", actor="ann")
    client = scene.client()
    client.post("/v1/chat/completions", json=CHAT)
    scene.end(client)
    assert len(engine.bodies) == 1


def test_copies_do_not_count_as_use_of_the_canary(scene: RolloutScene, rollout: Rollout, gate: Gate) -> None:
    scene.add_replica(by_model(r1=said("stable"), r2=gate))
    client = scene.client(SETTINGS.model_copy(update={"use_report_s": 0.02}))
    ask(client)
    assert gate.reached.wait(20)
    with scene.registry.transactions.write() as tx:
        tx.execute(sa.delete(revision_uses))
    ask(client)  # what is told from here on was counted while the copy was under way
    wait_for(lambda: bool(list(scene.registry.snapshot().uses)))
    assert [use.served_name for use in list(scene.registry.snapshot().uses)] == ["support@1"]


def test_a_gateway_that_ends_cuts_its_copies_off(scene: RolloutScene, rollout: Rollout, gate: Gate) -> None:
    scene.add_replica(by_model(r1=said("stable"), r2=gate))
    client = scene.client()
    ask(client)
    assert gate.reached.wait(20)
    scene.end(client)
    assert {cell.side for cell in scene.cells(rollout)} == {Side.STABLE}


@pytest.mark.long
def test_copies_stop_when_the_tokens_are_spent(scene: RolloutScene, rollout: Rollout) -> None:
    scene.add_replica(said("well"))
    client = scene.client(SETTINGS.model_copy(update={"shadow_tokens_per_s": 0.1, "shadow_wait_s": 2.0}))
    ask(client)
    scene.counted(rollout, Side.SHADOW_CANARY, 1)
    ask(client)
    assert wait_for(lambda: scene.dropped(client, "budget_spent")) == 1


def test_a_replica_without_the_canary_gets_no_copy(scene: RolloutScene, rollout: Rollout) -> None:
    scene.add_replica(said("stable"), loaded=(1,))
    client = scene.client()
    ask(client)
    assert wait_for(lambda: scene.dropped(client, "canary_not_loaded")) == 1


@pytest.mark.parametrize(
    ("fault", "errors"),
    [
        (answer(400, b"{}"), {"engine_error": 1}),
        (answer(500, b"{}"), {"engine_error": 1}),
        (answer(503, b"{}"), {"unavailable": 1}),
        (drop, {"unavailable": 1}),
        (stream_then_drop(b": hello\n\n"), {"broken": 1}),
        (answer(200, b"no"), {"malformed": 1}),
    ],
)
def test_a_copy_that_fails_is_held_against_the_canary_and_stable_goes_on(
    scene: RolloutScene, rollout: Rollout, fault: Script, errors: dict[str, int]
) -> None:
    scene.add_replica(by_model(r1=said("stable"), r2=fault))
    client = scene.client()
    ask(client)
    assert scene.counted(rollout, Side.SHADOW_CANARY, 1) == Tally(requests=1, errors=errors)
    assert scene.counted(rollout, Side.SHADOW_STABLE, 1).failures == 0
    ask(client)


def test_a_full_engine_says_nothing_of_the_canary(scene: RolloutScene, rollout: Rollout) -> None:
    scene.add_replica(by_model(r1=said("stable"), r2=answer(429, b"{}")))
    client = scene.client()
    ask(client)
    assert wait_for(lambda: scene.dropped(client, "engine_full")) == 1
    scene.end(client)
    counted = {cell.side: tally for cell, tally in scene.cells(rollout).items()}
    assert counted.keys() == {Side.STABLE, Side.SHADOW_CANARY}
    assert counted[Side.SHADOW_CANARY] == Tally(copies_left_out={"engine_full": 1})


def judging(reply_if_canary_is_first: str, reply_if_second: str) -> Script:
    """A judge model that knows the canary's answer by its words."""

    def script(handler: StubHandler) -> None:
        first = "[answer A]\ncanary" in orjson.loads(handler.body)["messages"][1]["content"]
        said(reply_if_canary_is_first if first else reply_if_second)(handler)

    return script


@pytest.mark.long
@pytest.mark.parametrize(
    ("first", "second", "win_sum"), [("A", "B", 1.0), ("B", "A", 0.0), ("A", "A", 0.5), ("TIE", "B\n", 0.75)]
)
def test_a_judge_model_is_asked_in_both_orders(scene: RolloutScene, first: str, second: str, win_sum: float) -> None:
    rollout = scene.start("shadow:100", judge="tiny")
    judge = judging(first, second)
    engine = scene.add_replica(by_model(r1=said("stable"), r2=said("canary"), rtiny=judge))
    ask(scene.client())
    tally = scene.counted(rollout, Side.SHADOW_CANARY, 1)
    tally = wait_for(lambda: [t for t in [scene.counted(rollout, Side.SHADOW_CANARY, 1)] if t.comparisons])[0]
    assert (tally.requests, tally.comparisons, tally.win_sum, tally.win_square_sum) == (1, 1, win_sum, win_sum**2)
    asked = [orjson.loads(body) for body in engine.bodies if b"tiny" in body]
    assert [body["model"] for body in asked] == ["tiny", "tiny"]
    assert "user: hi" in asked[0]["messages"][1]["content"]


@pytest.mark.parametrize(
    ("judge", "reply", "reason"), [("tiny", "A.", "judge_unclear"), ("oracle", "A", "judge_unknown")]
)
def test_an_answer_that_is_none_of_the_three_words_decides_nothing(
    scene: RolloutScene, judge: str, reply: str, reason: str
) -> None:
    rollout = scene.start("shadow:100", judge=judge)
    scene.add_replica(by_model(r1=said("stable"), r2=said("canary"), rtiny=said(reply)))
    client = scene.client()
    ask(client)
    assert wait_for(lambda: scene.dropped(client, reason)) == 1
    assert scene.counted(rollout, Side.SHADOW_CANARY, 1).comparisons == 0


@pytest.mark.parametrize("reply", ["", "a", "A B", "Answer A", "A.", "tie"])
def test_only_three_words_are_a_verdict(reply: str) -> None:
    assert preference_in(reply) is None
    assert [preference_in(word) for word in ("A", " TIE\n", "B")] == [1.0, 0.5, 0.0]


def test_a_judge_that_prefers_a_place_comes_to_a_tie() -> None:
    assert decided(1.0, 1.0) == decided(0.0, 0.0) == decided(0.5, 0.5)
    assert (decided(1.0, 0.0).win_sum, decided(0.0, 1.0).win_sum) == (1.0, 0.0)


def test_the_end_of_a_long_conversation_is_what_the_judge_sees() -> None:
    turns = [{"role": "user", "content": "x" * 50_000}, {"role": "user", "content": [{"type": "text", "text": "so?"}]}]
    text = question({"messages": turns}, "a" * 50_000, "b")["messages"][1]["content"]
    assert "so?" in text
    assert len(text) < 20_000
    assert "why" in question({"prompt": "why"}, "a", "b")["messages"][1]["content"]


def test_a_budget_pays_a_debt_off_before_it_has_some_again() -> None:
    budget = TokenBudget(per_s=10.0, now=0.0)
    assert budget.has_some(0.0)
    budget.spend(130.0)
    assert not budget.has_some(3.0)
    assert budget.has_some(3.5)
    budget.spend(5.0)
    assert budget.has_some(1000.0)
    budget.spend(99.0)
    assert budget.has_some(1000.0)
    budget.spend(1.0)
    assert not budget.has_some(1000.0)


def test_shadow_sides_stand_for_the_sides_in_their_steps_alone() -> None:
    def cell(step: int, side: Side) -> Cell:
        return Cell(rollout_id="ro-1", step=step, side=side, replica="r0")

    one, two, many = Tally(requests=1), Tally(requests=2), Tally(requests=9)
    cells = {
        cell(0, Side.SHADOW_CANARY): one,
        cell(0, Side.SHADOW_STABLE): two,
        cell(0, Side.STABLE): many,
        cell(1, Side.STABLE): many,
        cell(1, Side.CANARY): two,
    }
    assert comparable(cells) == {
        cell(0, Side.CANARY): one,
        cell(0, Side.STABLE): two,
        cell(1, Side.STABLE): many,
        cell(1, Side.CANARY): two,
    }
