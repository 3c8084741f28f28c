"""Each loss and its gradient are those of the formula, in double precision, for any logprobs."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainer.training.preferences.losses import (
    KtoWeights,
    PairRatios,
    dpo_losses,
    ipo_losses,
    kto_kl,
    kto_losses,
    orpo_losses,
    reward_losses,
    simpo_losses,
)

Values = tuple[float, float, float]
"""A loss, and its derivatives by the first and the second argument."""

LENGTHS = (3, 5)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def dpo(beta: float, smoothing: float, good: float, bad: float) -> Values:
    """Equation 7 and its gradient (section 4 of the paper), with the labels smoothed."""
    margin = beta * (good - bad)
    loss = -(1 - smoothing) * math.log(sigmoid(margin)) - smoothing * math.log(sigmoid(-margin))
    slope = beta * (smoothing * sigmoid(margin) - (1 - smoothing) * sigmoid(-margin))
    return loss, slope, -slope


def ipo(beta: float, good: float, bad: float) -> Values:
    """Equation 17."""
    distance = good / LENGTHS[0] - bad / LENGTHS[1] - 1 / (2 * beta)
    return distance**2, 2 * distance / LENGTHS[0], -2 * distance / LENGTHS[1]


def orpo(beta: float, good: float, bad: float) -> Values:
    """Equation 6; the derivative of log(odds) by the log of a probability P is 1 / (1 - P)."""
    odds = [math.exp(x) / (1 - math.exp(x)) for x in (good, bad)]
    ratio = math.log(odds[0] / odds[1])
    slope = -beta * sigmoid(-ratio)
    loss = -good - beta * math.log(sigmoid(ratio))
    return loss, -1 + slope / (1 - math.exp(good)), -slope / (1 - math.exp(bad))


def simpo(beta: float, gamma: float, good: float, bad: float) -> Values:
    """Equation 6; with beta 1 and gamma 0 the model of Bradley and Terry."""
    margin = beta * (good - bad) - gamma
    slope = -beta * sigmoid(-margin)
    return -math.log(sigmoid(margin)), slope, -slope


def kto(beta: float, kl: float, good: float, bad: float) -> Values:
    """Equation 7 with lambda 1 and 2, summed over a good and a bad answer."""
    v_good, v_bad = sigmoid(beta * (good - kl)), sigmoid(beta * (kl - bad))
    slopes = -beta * v_good * (1 - v_good), 2 * beta * v_bad * (1 - v_bad)
    return (1 - v_good) + 2 * (1 - v_bad), *slopes


def our_dpo(beta: float, smoothing: float, good: Tensor, bad: Tensor) -> Tensor:
    return dpo_losses(PairRatios(preferred=good, rejected=bad), beta, smoothing)


def our_ipo(beta: float, good: Tensor, bad: Tensor) -> Tensor:
    lengths = torch.tensor(LENGTHS[0]), torch.tensor(LENGTHS[1])
    return ipo_losses(PairRatios(preferred=good, rejected=bad), lengths, beta)


def our_kto(beta: float, kl: float, good: Tensor, bad: Tensor) -> Tensor:
    labels, weights = torch.tensor([True, False]), KtoWeights(desirable=1, undesirable=2)
    return kto_losses(torch.cat([good, bad]), torch.tensor(kl, dtype=torch.float64), labels, beta, weights)


def our_orpo(beta: float, good: Tensor, bad: Tensor) -> Tensor:
    return orpo_losses(good, bad, beta)


def our_simpo(beta: float, gamma: float, good: Tensor, bad: Tensor) -> Tensor:
    return simpo_losses(good, bad, beta, gamma)


def our_reward(good: Tensor, bad: Tensor) -> Tensor:
    return reward_losses(good, bad)


CASES: list[tuple[Callable[..., Tensor], Callable[..., Values], tuple[float, ...], tuple[float, ...]]] = [
    (our_dpo, dpo, (0.1, 0.0), (0.1, 0.0)),
    (our_dpo, dpo, (0.7, 0.2), (0.7, 0.2)),
    (our_ipo, ipo, (0.1,), (0.1,)),
    (our_kto, kto, (0.1, 0.3), (0.1, 0.3)),
    (our_kto, kto, (0.7, 0.0), (0.7, 0.0)),
    (our_orpo, orpo, (0.1,), (0.1,)),
    (our_simpo, simpo, (2.0, 1.0), (2.0, 1.0)),
    (our_reward, simpo, (), (1.0, 0.0)),
]


@pytest.mark.parametrize(("ours", "formula", "our_settings", "settings_of_formula"), CASES)
@settings(max_examples=25, deadline=None)
@given(values=st.tuples(st.floats(-12, -0.01), st.floats(-12, -0.01)))
def test_loss_and_gradient_are_those_of_the_formula(
    ours: Callable[..., Tensor],
    formula: Callable[..., Values],
    our_settings: tuple[float, ...],
    settings_of_formula: tuple[float, ...],
    values: tuple[float, float],
) -> None:
    first, second = (torch.tensor([value], dtype=torch.float64, requires_grad=True) for value in values)
    loss = ours(*our_settings, first, second).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    assert first.grad is not None and second.grad is not None
    found = (loss.item(), first.grad.item(), second.grad.item())
    assert found == pytest.approx(formula(*settings_of_formula, *values), rel=1e-9, abs=1e-12)


def test_the_kl_estimate_is_never_below_zero_and_has_no_gradient() -> None:
    ratios = torch.tensor([0.5, -0.1], requires_grad=True)
    assert kto_kl(ratios).item() == pytest.approx(0.2)
    assert not kto_kl(ratios).requires_grad
    assert kto_kl(-ratios).item() == 0.0


@pytest.mark.parametrize("logprob", [0.0, -1e-8, -80.0])
def test_an_answer_that_is_certain_or_hopeless_has_a_finite_loss_and_gradient(logprob: float) -> None:
    logprobs = torch.tensor([logprob, -1.0], requires_grad=True)
    loss = orpo_losses(logprobs[:1], logprobs[1:], 0.1).sum() + orpo_losses(logprobs[1:], logprobs[:1], 0.1).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    assert logprobs.grad is not None
    assert loss.isfinite() and logprobs.grad.isfinite().all()


TRL: Final[Mapping[str, Any]] = json.loads((Path(__file__).parent / "trl_losses.json").read_text())
"""The results of TRL 1.16, as `bench/trl_losses.py` has recorded it: mean losses and their gradients."""


def check(case: Mapping[str, Any], losses: Tensor, **by: Tensor) -> None:
    gradients = torch.autograd.grad(losses.mean(), list(by.values()))
    # TRL computes the odds ratio in single precision.
    assert losses.mean().item() == pytest.approx(case["loss"], rel=1e-6)
    for name, gradient in zip(by, gradients, strict=True):
        assert gradient.tolist() == pytest.approx(case[f"d_{name}"], rel=1e-5)


def recorded(case: Mapping[str, Any], name: str) -> Tensor:
    return torch.tensor(case[name], dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("name", ["dpo", "ipo"])
def test_pairs_have_the_loss_and_gradient_that_trl_has(name: str) -> None:
    case = TRL[name]
    policy = recorded(case, "policy")
    preferred, rejected = (policy - torch.tensor(case["reference"], dtype=torch.float64)).chunk(2)
    ratios = PairRatios(preferred=preferred, rejected=rejected)
    lengths = torch.tensor(case["lengths"])
    losses = dpo_losses(ratios, case["beta"], 0.0)
    if name == "ipo":
        losses = ipo_losses(ratios, (lengths[:3], lengths[3:]), case["beta"])
    check(case, losses, policy=policy)


def test_ratings_have_the_loss_and_gradient_that_trl_has() -> None:
    case = TRL["kto"]
    policy = recorded(case, "policy")
    kl = kto_kl(torch.tensor(case["mismatched"], dtype=torch.float64))
    weights = KtoWeights(desirable=case["desirable_weight"], undesirable=case["undesirable_weight"])
    ratios = policy - torch.tensor(case["reference"], dtype=torch.float64)
    check(case, kto_losses(ratios, kl, torch.tensor(case["labels"]), case["beta"], weights), policy=policy)


@pytest.mark.parametrize("name", ["orpo", "simpo", "reward"])
def test_methods_without_a_reference_have_the_loss_and_gradient_that_trl_has(name: str) -> None:
    case = TRL[name]
    preferred, rejected = recorded(case, "preferred"), recorded(case, "rejected")
    losses = {
        "orpo": lambda: orpo_losses(preferred, rejected, case["beta"]),
        "simpo": lambda: simpo_losses(preferred, rejected, case["beta"], case["gamma"]),
        "reward": lambda: reward_losses(preferred, rejected),
    }[name]()
    check(case, losses, preferred=preferred, rejected=rejected)
