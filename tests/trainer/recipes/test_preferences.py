"""Every method that learns preferences learns them, and reports what it measures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tests.trainer.recipes.preference_runs import METHODS, PAIR_METHODS, PreferenceRun
from trainer.progress import RecipeFinished

MakeRun = Callable[..., PreferenceRun]

pytestmark = [pytest.mark.trains, pytest.mark.filterwarnings("ignore:Could not find a config file")]


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def make_run(tmp_path: Path, tiny_base: Path, tiny_digest: str) -> MakeRun:
    made: list[PreferenceRun] = []

    def make(method: str, **fields: object) -> PreferenceRun:
        made.append(PreferenceRun(tmp_path / f"job-{len(made)}", tiny_base, tiny_digest, method, **fields))
        return made[-1]

    return make


@pytest.mark.parametrize("method", METHODS)
def test_a_run_learns_the_preference_and_reports_it(make_run: MakeRun, method: str) -> None:
    run = make_run(method, n_epochs=5)
    assert isinstance(run.attempt(validates=True), RecipeFinished)
    assert [step.step for step in run.steps] == list(range(1, 16))
    measured = [note.data for note in run.notes if "full_valid_loss" in note.data]
    assert {data["step"] for data in measured} >= {3, 6, 9, 12, 15}, "at the end of each epoch"
    assert measured[-1]["full_valid_loss"] < measured[0]["full_valid_loss"]
    assert measured[-1]["full_valid_reward_margin"] > measured[0]["full_valid_reward_margin"]
    assert run.steps[-1].figures.keys() >= {"train_reward_margin"}
    if method in PAIR_METHODS:
        assert measured[-1]["full_valid_preference_accuracy"] >= 0.75
