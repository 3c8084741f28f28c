"""A reward model scores as it was trained, read back from its folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from registry.publishing.score_head import check_reward_model
from registry.types import Base
from tests.trainer.recipes.preference_runs import PreferenceRun
from trainer.progress import RecipeFinished
from trainer.training.reward_model import RewardModel

pytestmark = [pytest.mark.trains, pytest.mark.filterwarnings("ignore:Could not find a config file")]


def test_the_folder_of_a_reward_model_gives_preferred_answers_the_higher_score(
    tmp_path: Path, tiny_base: Path, tiny_digest: str
) -> None:
    threads = torch.get_num_threads()
    run = PreferenceRun(tmp_path / "job", tiny_base, tiny_digest, "reward", n_epochs=6)
    assert isinstance(run.attempt(validates=True), RecipeFinished)
    torch.set_num_threads(threads)
    base = Base(name="tiny", path=str(tiny_base), digest=tiny_digest, licence="", created_at=0.0)
    check_reward_model(run.result, base)
    model = RewardModel(tiny_base, run.result)
    asked = [{"role": "user", "content": "q3"}]
    good, bad = (model.score(asked, answer) for answer in ("answer 3", "ANSWER 3ANSWER 3"))
    assert good > bad
    measured = [note.data for note in run.notes if "full_valid_reward_margin" in note.data][-1]
    margins = [
        model.score([{"role": "user", "content": f"q{at}" * (at % 3 + 1)}], f"answer {at}")
        - model.score([{"role": "user", "content": f"q{at}" * (at % 3 + 1)}], f"ANSWER {at}" * (at % 2 + 1))
        for at in range(12)
    ]
    assert sum(margins) / 12 == pytest.approx(measured["full_valid_reward_margin"], rel=1e-3)
    assert model.score(asked, "") != good, "an empty answer has a score too"
