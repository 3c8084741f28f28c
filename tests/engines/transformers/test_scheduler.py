"""A step computes the right tokens of the running and the waiting sequences."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer

from engines.transformers.sampling import ChosenToken, SamplingParams, chooser
from engines.transformers.scheduler import Row, Scheduler, StepPlan
from engines.transformers.sequence import Delta, FinishReason, Sequence, SequenceState
from engines.transformers.text import TextStream

END = 2


class Maker:
    """Makes sequences of given tokens."""

    def __init__(self, codec: Tokenizer) -> None:
        self._codec = codec

    def __call__(
        self, tokens: list[int], *, adapter: int = 0, limit: int = 10, leader: Sequence | None = None
    ) -> Sequence:
        return Sequence(
            tokens=list(tokens),
            adapter=adapter,
            limit=limit,
            chooser=chooser(SamplingParams(), 0),
            text=TextStream(self._codec, []),
            end_tokens=frozenset({END}),
            deliver=lambda news: None,
            arrived_at=0.0,
            leader=leader,
        )


@pytest.fixture(scope="module")
def make(model_folder: Path) -> Maker:
    return Maker(Tokenizer.from_file(str(model_folder / "tokenizer.json")))


def planned(scheduler: Scheduler) -> StepPlan:
    plan = scheduler.plan()
    assert plan is not None
    return plan


def accept(row: Row, token: int = 500) -> Delta | None:
    return row.sequence.accept(ChosenToken(token, None, ()))


def prompt(size: int, first: int = 100) -> list[int]:
    return list(range(first, first + size))


def test_a_long_prompt_is_read_in_pieces_while_others_go_on(make: Maker) -> None:
    scheduler = Scheduler(slots=2, max_step_tokens=10)
    scheduler.add(make(prompt(4)))
    first = planned(scheduler).prompts[0]
    accept(first)
    scheduler.add(make(prompt(25, 900)))
    lengths = []
    for _ in range(3):
        plan = planned(scheduler)
        assert [row.sequence for row in plan.decodes] == [first.sequence]
        lengths.append(plan.prompts[0].length)
        accept(plan.decodes[0])
    assert lengths == [9, 9, 7]
    assert plan.prompts[0].is_last


def test_what_finds_no_slot_waits_in_order(make: Maker) -> None:
    scheduler = Scheduler(slots=1, max_step_tokens=100)
    one, two, three = make(prompt(3)), make(prompt(3)), make(prompt(3))
    for sequence in (one, two, three):
        scheduler.add(sequence)
    assert [row.sequence for row in planned(scheduler).prompts] == [one]
    scheduler.drop(one)
    assert [row.sequence for row in planned(scheduler).prompts] == [two]
    assert list(scheduler.waiting) == [three]


def test_a_dropped_sequence_frees_its_place_wherever_it_is(make: Maker) -> None:
    scheduler = Scheduler(slots=1, max_step_tokens=100)
    running, waiting = make(prompt(3)), make(prompt(3))
    scheduler.add(running)
    scheduler.add(waiting)
    scheduler.plan()
    for sequence in (running, waiting, running):
        scheduler.drop(sequence)
        assert sequence.state is SequenceState.DONE
    assert scheduler.plan() is None
    assert not scheduler.waiting


def test_rows_of_one_adapter_are_neighbours(make: Maker) -> None:
    scheduler = Scheduler(slots=4, max_step_tokens=100)
    for adapter in (2, 0, 2, 1):
        scheduler.add(make(prompt(3), adapter=adapter))
    rows = planned(scheduler).prompts
    assert [row.sequence.adapter for row in rows] == [0, 1, 2, 2]
    for row in rows:
        accept(row)
    assert [row.sequence.adapter for row in planned(scheduler).decodes] == [0, 1, 2, 2]


def test_a_common_beginning_is_copied_not_computed(make: Maker) -> None:
    scheduler = Scheduler(slots=2, max_step_tokens=100)
    scheduler.add(make(prompt(20)))
    scheduler.plan()
    scheduler.add(make([*prompt(15), 7, 8]))
    plan = planned(scheduler)
    assert [tuple(copy) for copy in plan.copies] == [(0, 1, 15)]
    assert (plan.prompts[-1].start, plan.prompts[-1].length) == (15, 2)


def test_an_ended_sequence_still_serves_its_beginning(make: Maker) -> None:
    scheduler = Scheduler(slots=1, max_step_tokens=100)
    first = make(prompt(20))
    scheduler.add(first)
    accept(planned(scheduler).prompts[0])
    scheduler.release(first)
    scheduler.add(make(prompt(20)))
    plan = planned(scheduler)
    assert plan.copies == ()
    assert [(row.start, row.length) for row in plan.decodes] == [(19, 1)]


def test_a_copy_leaves_a_conversation_its_beginning(make: Maker) -> None:
    scheduler = Scheduler(slots=3, max_step_tokens=100)
    turn = make(prompt(20))
    copy = make(prompt(20), adapter=2)
    copy.is_copy = True
    for sequence in (turn, copy):
        scheduler.add(sequence)
        accept(planned(scheduler).prompts[0])
        scheduler.release(sequence)
    scheduler.add(make([*prompt(20), 500, 7, 8]))
    plan = planned(scheduler)
    assert plan.copies == ()
    assert [(row.start, row.length) for row in plan.prompts] == [(20, 3)]


def test_nothing_is_shared_between_adapters(make: Maker) -> None:
    scheduler = Scheduler(slots=2, max_step_tokens=100)
    scheduler.add(make(prompt(20), adapter=1))
    scheduler.plan()
    scheduler.add(make(prompt(20), adapter=2))
    plan = planned(scheduler)
    assert plan.copies == ()
    assert plan.prompts[-1].length == 20


def test_further_choices_of_a_prompt_wait_until_it_is_computed(make: Maker) -> None:
    scheduler = Scheduler(slots=3, max_step_tokens=10)
    leader = make(prompt(15))
    follower = make(prompt(15), leader=leader)
    scheduler.add(leader)
    scheduler.add(follower)
    assert [row.sequence for row in planned(scheduler).prompts] == [leader]
    assert [row.sequence for row in planned(scheduler).prompts] == [leader]
    accept(Row(leader, 10, 5))
    assert [tuple(copy) for copy in planned(scheduler).copies] == [(0, 1, 14)]


def test_an_end_token_ends_without_text_and_the_limit_with_it(make: Maker) -> None:
    ended = make(prompt(3)).accept(ChosenToken(END, None, ()))
    assert ended is not None
    assert (ended.text, ended.finish) == ("", FinishReason.STOP)
    limited = make(prompt(3), limit=1).accept(ChosenToken(500, None, ()))
    assert limited is not None
    assert limited.text
    assert limited.finish is FinishReason.LENGTH
