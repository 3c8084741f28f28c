"""The formulas of policy gradients, as pure functions of log-probabilities and rewards.

Sources: PPO, Schulman et al. 2017 (arXiv:1707.06347); GRPO, Shao et al. 2024, DeepSeekMath (arXiv:2402.03300); DAPO, Yu
et al. 2025 (arXiv:2503.14476); Dr. GRPO, Liu et al. 2025 (arXiv:2503.20783); RLOO, Ahmadian et al. 2024
(arXiv:2402.14740); the estimator of the KL divergence, Schulman 2020 (joschu.net/blog/kl-approx.html).
"""

from __future__ import annotations

from typing import Final

import torch
from torch.nn.functional import cross_entropy

from trainer.data.encoded_row import IGNORED

SMALL_DEVIATION: Final = 1e-4
"""Added to a deviation that is a divisor, as TRL does: a group with equal rewards has advantages of 0."""


def token_logps(logits: torch.Tensor, labels: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return log p of each label, 0 where there is none: [rows, kept] from logits of [rows, kept, vocabulary].

    Sampling divides the logits by *temperature*, so the same distribution is meant here.
    """
    flat = logits.flatten(0, 1)
    scaled = (flat if flat.dtype == torch.float64 else flat.float()) / temperature
    losses = cross_entropy(scaled, labels.flatten(), ignore_index=IGNORED, reduction="none")
    return -losses.view(labels.shape)


def group_advantages(rewards: torch.Tensor, *, is_scaled: bool) -> torch.Tensor:
    """Return the advantages of [prompts, outputs]: the reward less the mean of its group, by the group's deviation.

    A = (r - mean(r)) / (std(r) + 1e-4), GRPO's equation 3 with TRL's constant. Dr. GRPO leaves the divisor out.
    """
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    return centred / (rewards.std(dim=1, keepdim=True) + SMALL_DEVIATION) if is_scaled else centred


def leave_one_out_advantages(rewards: torch.Tensor) -> torch.Tensor:
    """Return the reward less the mean of the other rewards of its group, for [prompts, outputs]: RLOO's equation 7."""
    others = (rewards.sum(dim=1, keepdim=True) - rewards) / (rewards.shape[1] - 1)
    return rewards - others


def clipped_losses(log_ratio: torch.Tensor, advantages: torch.Tensor, epsilon: float) -> torch.Tensor:
    """Return -min(rho A, clip(rho, 1 - epsilon, 1 + epsilon) A) with rho = exp(*log_ratio*): PPO's equation 7."""
    ratio = log_ratio.exp()
    return -torch.minimum(ratio * advantages, ratio.clamp(1 - epsilon, 1 + epsilon) * advantages)


def kl_estimates(logps: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Return exp(d) - d - 1 with d = *reference* - *logps*, an unbiased estimate of KL(policy | reference)."""
    difference = reference - logps
    return difference.exp() - difference - 1
