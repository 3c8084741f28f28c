"""The formulas of PPO that GRPO and RLOO do without: advantages by a value function, and the loss of that function.

Sources: GAE, Schulman et al. 2016 (arXiv:1506.02438); PPO, Schulman et al. 2017 (arXiv:1707.06347); rewards of a
language model with a KL penalty at each token, Ziegler et al. 2019 (arXiv:1909.08593); clipped values as in OpenAI's
baselines and in Huang et al. 2024 (arXiv:2403.17031).
"""

from __future__ import annotations

from typing import Final

import torch

SMALL_VARIANCE: Final = 1e-8


def penalised_rewards(reward: float, logps: torch.Tensor, reference: torch.Tensor, beta: float) -> torch.Tensor:
    """Return the rewards of the tokens of one output: -beta (log p - log p_ref) at each, and *reward* at the last."""
    rewards = -beta * (logps - reference)
    rewards[-1] += reward
    return rewards


def generalised_advantages(rewards: torch.Tensor, values: torch.Tensor, gamma: float, lam: float) -> torch.Tensor:
    """Return GAE's advantages of one output: sum over l of (gamma lam)^l delta_{t+l}, by equation 16.

    delta_t = r_t + gamma V_{t+1} - V_t, and V is 0 after the last token.
    """
    advantages = torch.zeros_like(rewards)
    following = torch.zeros((), dtype=rewards.dtype)
    after = torch.zeros((), dtype=rewards.dtype)
    for at in reversed(range(len(rewards))):
        delta = rewards[at] + gamma * after - values[at]
        following = delta + gamma * lam * following
        advantages[at], after = following, values[at]
    return advantages


def whitened(advantages: torch.Tensor) -> torch.Tensor:
    """Return *advantages* with mean 0 and variance 1, as Huang et al. 2024 do over a batch."""
    return (advantages - advantages.mean()) * torch.rsqrt(advantages.var(correction=0) + SMALL_VARIANCE)


def value_losses(values: torch.Tensor, old: torch.Tensor, returns: torch.Tensor, clip: float) -> torch.Tensor:
    """Return max((V - R)^2, (V_old + clip(V - V_old, -c, c) - R)^2) / 2 for each token."""
    held = old + (values - old).clamp(-clip, clip)
    return torch.maximum((values - returns).square(), (held - returns).square()) / 2
