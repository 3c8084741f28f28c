"""Losses of policy gradients, and their gradients, agree with their formulas in float64."""

from __future__ import annotations

import math

import pytest
import torch

from trainer.data.encoded_row import IGNORED
from trainer.training.repeated_batches import RepeatedBatches
from trainer.training.sampling.policy_loss import (
    clipped_losses,
    group_advantages,
    kl_estimates,
    leave_one_out_advantages,
    token_logps,
)
from trainer.training.sampling.value_loss import generalised_advantages, penalised_rewards, value_losses, whitened


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_the_probability_of_a_token_is_that_of_the_tempered_distribution() -> None:
    logits, labels = numbers(2, 3, 5), torch.tensor([[1, 4, IGNORED], [0, IGNORED, 2]])
    found = token_logps(logits, labels, 0.7)
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 2)):
        weights = [math.exp(float(value) / 0.7) for value in logits[row, column]]
        assert float(found[row, column]) == pytest.approx(math.log(weights[labels[row, column]] / sum(weights)), 1e-12)
    assert float(found[0, 2]) == 0.0


def test_advantages_of_a_group_are_its_standard_scores() -> None:
    rewards = torch.tensor([[1.0, 0.0, 0.0, 3.0], [2.0, 2.0, 2.0, 2.0]], dtype=torch.float64)
    scaled = group_advantages(rewards, is_scaled=True)
    deviation = math.sqrt((0 + 1 + 1 + 4) / 3)
    assert scaled[0].tolist() == pytest.approx([each / (deviation + 1e-4) for each in (0, -1, -1, 2)], 1e-12)
    assert scaled[1].tolist() == [0, 0, 0, 0]
    assert group_advantages(rewards, is_scaled=False)[0].tolist() == [0, -1, -1, 2]


def test_the_baseline_of_rloo_leaves_the_output_itself_out() -> None:
    rewards = torch.tensor([[1.0, 0.0, 5.0]], dtype=torch.float64)
    assert leave_one_out_advantages(rewards)[0].tolist() == [1 - 2.5, 0 - 3.0, 5 - 0.5]


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "slope"),
    [
        # Inside the range the slope of -rho A by log rho is -rho A; where the clip is the smaller one it is 0.
        (1.0, 2.0, -2.0, -2.0),
        (1.1, 2.0, -2.2, -2.2),
        (1.5, 2.0, -2.4, 0.0),
        (1.5, -2.0, 3.0, 3.0),
        (0.5, 2.0, -1.0, -1.0),
        (0.5, -2.0, 1.6, 0.0),
    ],
)
def test_the_clipped_loss_and_its_gradient(ratio: float, advantage: float, loss: float, slope: float) -> None:
    log_ratio = torch.tensor([math.log(ratio)], dtype=torch.float64, requires_grad=True)
    found = clipped_losses(log_ratio, torch.tensor([advantage], dtype=torch.float64), 0.2)
    (gradient,) = torch.autograd.grad(found.sum(), log_ratio)
    assert (float(found.detach()), float(gradient)) == pytest.approx((loss, slope), 1e-12)


def test_the_estimate_of_kl_is_unbiased_and_never_negative() -> None:
    policy, reference = torch.log_softmax(numbers(7), 0), torch.log_softmax(numbers(7, seed=1), 0)
    estimates = kl_estimates(policy, reference)
    assert float(estimates.min()) >= 0
    exact = float((policy.exp() * (policy - reference)).sum())
    assert float((policy.exp() * estimates).sum()) == pytest.approx(exact, 1e-12)


def test_generalised_advantages_are_the_sum_of_their_definition() -> None:
    rewards, values, gamma, lam = numbers(5), numbers(5, seed=1), 0.9, 0.8
    after = torch.cat([values[1:], torch.zeros(1, dtype=torch.float64)])
    deltas = rewards + gamma * after - values
    expected = [sum((gamma * lam) ** (k - t) * float(deltas[k]) for k in range(t, 5)) for t in range(5)]
    assert generalised_advantages(rewards, values, gamma, lam).tolist() == pytest.approx(expected, 1e-12)


def test_the_reward_of_an_output_is_at_its_last_token_and_the_penalty_at_each() -> None:
    logps, reference = torch.tensor([-1.0, -2.0]), torch.tensor([-1.5, -1.0])
    assert penalised_rewards(3.0, logps, reference, 0.1).tolist() == pytest.approx([-0.05, 3.1])


def test_the_loss_of_values_is_the_worse_of_the_clipped_and_the_other() -> None:
    values = torch.tensor([1.0, 0.1, 2.0], dtype=torch.float64, requires_grad=True)
    old, returns = torch.zeros(3, dtype=torch.float64), torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)
    losses = value_losses(values, old, returns, 0.2)
    (gradient,) = torch.autograd.grad(losses.sum(), values)
    assert losses.tolist() == pytest.approx([0.8**2 / 2, 0.9**2 / 2, 2.0])
    assert gradient.tolist() == pytest.approx([0.0, -0.9, 2.0]), "a value that went too far learns nothing more"


def test_whitened_advantages_have_mean_0_and_variance_1() -> None:
    found = whitened(numbers(50) * 3 + 7)
    assert (float(found.mean()), float(found.var(correction=0))) == pytest.approx((0, 1), abs=1e-6)


def test_every_batch_comes_whole_and_so_often_as_it_is_asked_for() -> None:
    order = RepeatedBatches(10, 4, 3, seed=1)
    epochs = []
    for epoch in range(2):
        order.set_epoch(epoch)
        rows = [*order]
        assert len(rows) == len(order) == 36
        batches = [rows[at : at + 4] for at in range(0, 36, 4)]
        assert batches[0::3] == batches[1::3] == batches[2::3]
        assert set(rows) == set(range(10))
        assert all(len(set(batch)) == 4 for batch in batches)
        epochs.append(rows)
    assert epochs[0] != epochs[1]
