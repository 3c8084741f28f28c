"""Reinforcement fine-tuning: GRPO and RLOO, which compare the outputs of a prompt with each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import torch

from registry.contracts.methods.reinforcement_spec import ReinforcementSpec
from trainer.data.dataset import ChatEncoder
from trainer.order import ChildOrder
from trainer.progress import RecipeFinished, RecipeStopped, Report, StopAsked
from trainer.recipes import Recipe
from trainer.training.objective import Batch
from trainer.training.run import run_training
from trainer.training.sampling.grading_means import grading_means
from trainer.training.sampling.policy_loss import clipped_losses, group_advantages, leave_one_out_advantages
from trainer.training.sampling.policy_objective import PolicyObjective
from trainer.training.sampling.rewarding import Rewarder
from trainer.training.sampling.rollouts import Output, spread, with_tokens


class GroupObjective(PolicyObjective[ReinforcementSpec]):
    """GRPO's loss: the clipped ratio of each token times its output's advantage, and beta times the KL estimate."""

    def judged(self, outputs: Sequence[Output], rewards: torch.Tensor) -> Sequence[Output]:
        """Give every token the advantage of its output."""
        advantages = group_advantages(rewards, is_scaled=self.spec.scale_rewards == "group").flatten()
        named = {"advantages": [value.expand(output.length) for output, value in zip(outputs, advantages, strict=True)]}
        if self.spec.beta:
            named["reference"] = self.reference_logps(outputs)
        if self.spec.iterations > 1:
            named["old"] = self.policy_logps(outputs)
        return with_tokens(outputs, named)

    def count(self, outputs: Sequence[Output]) -> int:
        """Return what the loss is a mean of."""
        return DIVISORS[self.spec.loss_type](outputs, self.spec)

    def pass_loss(self, model: torch.nn.Module, outputs: Sequence[Output], batch: Batch) -> torch.Tensor:
        """Return the summed loss of *outputs*."""
        mask = batch["learnt"]
        logps, _ = self.logps(model, batch)
        # With one step for each output the policy is still the one that sampled, and the ratio is 1 with a gradient.
        old = logps.detach() if self.spec.iterations == 1 else spread(outputs, "old", mask)
        log_ratio = logps - old
        losses = clipped_losses(log_ratio, spread(outputs, "advantages", mask), self.spec.epsilon)
        self.add("tokens", torch.ones_like(logps), mask)
        self.add("clipped", ((log_ratio.exp() - 1).abs() > self.spec.epsilon).float(), mask)
        if self.spec.beta:
            losses = losses + self.spec.beta * self.add_kl(logps, spread(outputs, "reference", mask), mask)
        if self.spec.loss_type == "grpo":
            losses = losses / mask.sum(dim=1, keepdim=True)
        return torch.where(mask, losses, 0).sum()


class LeaveOneOutObjective(PolicyObjective[ReinforcementSpec]):
    """RLOO's loss: the clipped ratio of a whole output times its reward less the mean of the others.

    The distance to the base model, beta times log p - log p_ref of the output, is taken off its reward.
    """

    def judged(self, outputs: Sequence[Output], rewards: torch.Tensor) -> Sequence[Output]:
        """Give every token the advantage of its output."""
        old = self.policy_logps(outputs) if self.spec.beta or self.spec.iterations > 1 else []
        named: dict[str, Sequence[torch.Tensor]] = {"old": old} if old else {}
        if self.spec.beta:
            named["reference"] = self.reference_logps(outputs)
            distances = [float((mine - base).sum()) for mine, base in zip(old, named["reference"], strict=True)]
            rewards = rewards - self.spec.beta * torch.tensor(distances, dtype=rewards.dtype).view(rewards.shape)
        advantages = leave_one_out_advantages(rewards).flatten()
        named["advantages"] = [value.expand(output.length) for output, value in zip(outputs, advantages, strict=True)]
        return with_tokens(outputs, named)

    def count(self, outputs: Sequence[Output]) -> int:
        """Return the number of outputs."""
        return len(outputs)

    def pass_loss(self, model: torch.nn.Module, outputs: Sequence[Output], batch: Batch) -> torch.Tensor:
        """Return the summed loss of *outputs*."""
        mask = batch["learnt"]
        logps, _ = self.logps(model, batch)
        old = logps.detach() if self.spec.iterations == 1 else spread(outputs, "old", mask)
        log_ratio = ((logps - old) * mask).sum(dim=1)
        advantages = torch.stack([output.tokens["advantages"][0] for output in outputs]).to(log_ratio.device)
        self.add("tokens", torch.ones_like(logps), mask)
        if self.spec.beta:
            self.add_kl(logps, spread(outputs, "reference", mask), mask)
        return clipped_losses(log_ratio, advantages, self.spec.epsilon).sum()


DIVISORS: Final[Mapping[str, Callable[[Sequence[Output], ReinforcementSpec], int]]] = {
    "dapo": lambda outputs, spec: sum(output.length for output in outputs),
    "grpo": lambda outputs, spec: len(outputs),
    "dr_grpo": lambda outputs, spec: len(outputs) * spec.max_completion_tokens,
}
"""`loss_type` -> the divisor of a step."""
OBJECTIVES: Final[Mapping[str, type[PolicyObjective[ReinforcementSpec]]]] = {
    "grpo": GroupObjective,
    "rloo": LeaveOneOutObjective,
}
"""`algorithm` -> its objective."""


def train(
    order: ChildOrder[ReinforcementSpec], report: Report, stop_asked: StopAsked
) -> RecipeFinished | RecipeStopped:
    """Train on the prompts of the order's training file."""
    with grading_means(order) as means:
        rewarder = Rewarder(order.spec.grader, means, report)
        objective = OBJECTIVES[order.spec.algorithm](ChatEncoder(order.base_path), order.spec, rewarder)
        return run_training(order, objective, report, stop_asked)


RECIPE: Final[Recipe] = train
