"""Held-out figures compare what both answers of a pair have gained, not how likely they are."""

from __future__ import annotations

import pytest
import torch

from bench.training.held_out import held_out
from trainer.training.preferences.answers import AnswerLogprobs


def answers(*sums: float) -> AnswerLogprobs:
    return AnswerLogprobs(sums=torch.tensor(sums), lengths=torch.full((len(sums),), 2.0))


def test_a_pair_counts_whose_preferred_answer_gained_more() -> None:
    base = answers(-10.0, -4.0, -6.0, -6.0)
    found = held_out(answers(-7.0, -5.0, -8.0, -7.0), base)
    assert found.accuracy == 0.5, "the first pair, though its preferred answer is still the less likely one"
    assert found.margin == pytest.approx((4.0 - 1.0) / 2)
    assert found.loss == pytest.approx((7.0 + 8.0) / 2 / 2)


def test_the_untrained_model_has_no_pair_right() -> None:
    base = answers(-1.0, -2.0)
    assert held_out(base, base).accuracy == 0.0
