"""The lowest validation loss wins, patience ends a run, and the last steps are the ones that are served."""

from __future__ import annotations

from typing import Any

import pytest

from tests.trainer.conftest import MakeSpec
from trainer.training.steps.step_choice import StepChoice, StepRules


def judged(losses: list[float], patience: int | None) -> StepChoice:
    choice = StepChoice()
    for step, loss in enumerate(losses, start=1):
        choice = choice.judged(step, loss, patience)
        if choice.is_over:
            break
    return choice


@pytest.mark.parametrize(
    ("losses", "patience", "best", "last"),
    [
        ([3.0, 2.0, 1.0], 1, 3, None),
        ([3.0, 2.0, 2.5, 1.0], 1, 2, 3),
        ([3.0, 2.0, 2.5, 1.0], 2, 4, None),
        ([3.0, 2.0, 2.0, 2.0, 1.0], 2, 2, 4),  # an equal loss is no lower one, and the first of equal ones is the best
        ([3.0, 4.0, 5.0], None, 1, None),
    ],
)
def test_the_lowest_loss_is_the_best_and_patience_ends_the_run(
    losses: list[float], patience: int | None, best: int, last: int | None
) -> None:
    choice = judged(losses, patience)
    assert (choice.best_step, choice.last_step, choice.is_over) == (best, last, last is not None)
    assert choice.kept == {best} | ({last} if last else set())


def test_a_choice_that_was_stored_is_the_same() -> None:
    choice = judged([3.0, 2.0, 2.5], 1).serving(2).serving(3)
    assert StepChoice.model_validate_json(choice.model_dump_json()) == choice


@pytest.mark.parametrize(
    ("fields", "served", "saved"),
    [
        ({}, [9, 12, 15], {9, 12, 15}),  # five epochs of three steps, and checkpoints of every second step
        ({"serve_checkpoints": "steps"}, [12, 14, 15], {9, 12, 15, 2, 4, 6, 8, 10, 14}),
        ({"serve_checkpoints": "none"}, [], set()),
        ({"keep": "best"}, [9, 12, 15], {3, 6, 9, 12, 15, 2, 4, 8, 10, 14}),
    ],
)
def test_the_last_three_ends_of_epochs_or_checkpoints_are_served(
    make_spec: MakeSpec, fields: dict[str, Any], served: list[int], saved: set[int]
) -> None:
    rules, choice = StepRules(make_spec(n_epochs=5, checkpoint_steps=2, **fields), 3, 15), StepChoice()
    for step in range(1, 16):
        choice = choice.serving(step) if rules.serves(step) else choice
    assert list(choice.served) == served
    assert {step for step in range(1, 16) if rules.saves(step)} == saved


def test_a_result_is_the_last_step_unless_the_best_is_asked_for(make_spec: MakeSpec) -> None:
    choice = judged([2.0, 3.0], None)
    assert choice.result_step(make_spec(), 2) == 2
    assert choice.result_step(make_spec(keep="best"), 2) == 1
    assert StepChoice().result_step(make_spec(keep="best"), 2) == 2
