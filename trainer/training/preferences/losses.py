"""Losses of the methods that learn preferences, as pure functions of logprobs; each names its source.

All tensors are [rows] in nats unless a function says otherwise, and each function returns one loss for each row. `y_w`
is the preferred answer, `y_l` the other one, `pi` the trained model and `ref` the model before training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

CERTAIN: Final = -1e-6
"""The highest mean logprob of an answer in `orpo_losses`: the odds of an answer with probability 1 are infinite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRatios:
    """`log(pi(y|x) / ref(y|x))` of both answers of each pair."""

    preferred: Tensor
    rejected: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class KtoWeights:
    """How much a row counts by its label (`lambda_D` and `lambda_U` of the paper)."""

    desirable: float
    undesirable: float


def dpo_losses(ratios: PairRatios, beta: float, label_smoothing: float) -> Tensor:
    """Return `-(1 - e) log sigmoid(beta d) - e log sigmoid(-beta d)`, d the difference of the log ratios.

    With a label smoothing e of 0, equation 7 of Rafailov et al. 2023, Direct Preference Optimization
    (arXiv:2305.18290); else equation 3 of Mitchell 2023, A note on DPO with noisy preferences (conservative DPO): a
    share e of the labels is taken to be wrong.
    """
    margin = beta * (ratios.preferred - ratios.rejected)
    return -(1 - label_smoothing) * logsigmoid(margin) - label_smoothing * logsigmoid(-margin)


def ipo_losses(ratios: PairRatios, lengths: tuple[Tensor, Tensor], beta: float) -> Tensor:
    """Return `(d - 1 / (2 beta))^2`, d the difference of the log ratios, each divided by its answer's tokens.

    Equation 17 of Azar et al. 2023, A General Theoretical Paradigm to Understand Learning from Human Preferences
    (arXiv:2310.12036), whose tau is *beta*; the mean over tokens is what its authors use, as TRL reports. *lengths*
    are the learnt tokens of the preferred and of the other answers.
    """
    margin = ratios.preferred / lengths[0] - ratios.rejected / lengths[1]
    return (margin - 1 / (2 * beta)) ** 2


def kto_losses(ratios: Tensor, kl: Tensor, is_desirable: Tensor, beta: float, weights: KtoWeights) -> Tensor:
    """Return `w (1 - sigmoid(beta (r - kl)))` of desirable answers and `w (1 - sigmoid(beta (kl - r)))` of others.

    Equations 7 and 8 of Ethayarajh et al. 2024, KTO: Model Alignment as Prospect Theoretic Optimization
    (arXiv:2402.01306), without the constant `lambda_y`. *ratios* are `log(pi(y|x) / ref(y|x))`; *kl* is a scalar
    without gradient, see `kto_kl`; *is_desirable* is boolean.
    """
    desirable = weights.desirable * (1 - torch.sigmoid(beta * (ratios - kl)))
    undesirable = weights.undesirable * (1 - torch.sigmoid(beta * (kl - ratios)))
    return torch.where(is_desirable, desirable, undesirable)


def kto_kl(mismatched_ratios: Tensor) -> Tensor:
    """Return the scalar estimate of `KL(pi || ref)`: the mean log ratio of answers to other prompts, at least 0.

    Section 4.1 of the KTO paper: a prompt with the answer of another row stands for a sample of the model.
    """
    return mismatched_ratios.mean().clamp(min=0).detach()


def orpo_losses(preferred: Tensor, rejected: Tensor, beta: float) -> Tensor:
    """Return `-p_w - beta log sigmoid(log odds(y_w) - log odds(y_l))`, p the mean logprob of an answer's tokens.

    Equations 6 and 7 of Hong et al. 2024, ORPO: Monolithic Preference Optimization without Reference Model
    (arXiv:2403.07691), whose lambda is *beta*; `odds = P / (1 - P)` with `P = exp(p)`, equations 3 and 4.
    """
    log_odds = _log_odds(preferred) - _log_odds(rejected)
    return -preferred - beta * logsigmoid(log_odds)


def simpo_losses(preferred: Tensor, rejected: Tensor, beta: float, gamma: float) -> Tensor:
    """Return `-log sigmoid(beta (p_w - p_l) - gamma)`, p the mean logprob of an answer's tokens.

    Equation 6 of Meng et al. 2024, SimPO: Simple Preference Optimization with a Reference-Free Reward
    (arXiv:2405.14734).
    """
    return -logsigmoid(beta * (preferred - rejected) - gamma)


def reward_losses(preferred: Tensor, rejected: Tensor) -> Tensor:
    """Return `-log sigmoid(r_w - r_l)` of scores r: the negative log likelihood of Bradley and Terry's model.

    Equation 1 of Ouyang et al. 2022, Training language models to follow instructions with human feedback
    (arXiv:2203.02155), with two answers to a prompt.
    """
    return -logsigmoid(preferred - rejected)


def _log_odds(logprob: Tensor) -> Tensor:
    return logprob - torch.log(-torch.expm1(logprob.clamp(max=CERTAIN)))
