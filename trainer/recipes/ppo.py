"""PPO: the advantage of a token is what came after it, less what a value function expected.

The value function is one linear layer over the last hidden state of the model that is trained, so both share the
adapter. The layer is part of the model for the optimizer, whose state is in every checkpoint; its weights are saved
beside them, and are not part of the result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from registry.contracts.methods.ppo_spec import PpoSpec
from trainer.data.dataset import ChatEncoder
from trainer.order import ChildOrder
from trainer.progress import RecipeFinished, RecipeStopped, Report, StopAsked
from trainer.recipes import Recipe
from trainer.training.objective import Batch
from trainer.training.run import run_training
from trainer.training.sampling.grading_means import grading_means
from trainer.training.sampling.policy_loss import clipped_losses
from trainer.training.sampling.policy_objective import PolicyObjective
from trainer.training.sampling.rewarding import Rewarder
from trainer.training.sampling.rollouts import Output, by_output, gather, spread, with_tokens
from trainer.training.sampling.value_loss import generalised_advantages, penalised_rewards, value_losses, whitened

VALUE_HEAD: Final = "value_head.safetensors"


class ValueHead(torch.nn.Linear):
    """The value before a token, of its hidden state; a class of its own, so that it can be named."""


class PpoObjective(PolicyObjective[PpoSpec]):
    """PPO's clipped loss of the policy, and `value_weight` times the clipped loss of the values."""

    def __init__(self, encoder: ChatEncoder, spec: PpoSpec, rewarder: Rewarder) -> None:
        super().__init__(encoder, spec, rewarder)
        self._head = ValueHead(1, 1)

    def attach(self, model: PeftModel) -> None:
        """Put a value head into the model: zeros, so that no value is expected at first."""
        parameter = next(model.parameters())
        self._head = ValueHead(int(model.config.hidden_size), 1).to(parameter.device, parameter.dtype)
        torch.nn.init.zeros_(self._head.weight)
        torch.nn.init.zeros_(self._head.bias)
        model.add_module("value_head", self._head)
        # FSDP2 splits the weights of these classes as parts of their own, each of which gathers what it computes with:
        # the head computes after the model's own pass, when the model's part is split again.
        base = model.get_base_model()
        base._no_split_modules = [*(base._no_split_modules or ()), ValueHead.__name__]

    def judged(self, outputs: Sequence[Output], rewards: torch.Tensor) -> Sequence[Output]:
        """Give every token its advantage, and the return that its value should have been."""
        old, values = self._logps_and_values(outputs)
        reference = self.reference_logps(outputs) if self.spec.beta else old
        advantages, returns = [], []
        for at, reward in enumerate(rewards.flatten().tolist()):
            token_rewards = penalised_rewards(reward, old[at], reference[at], self.spec.beta)
            found = generalised_advantages(token_rewards, values[at], self.spec.gamma, self.spec.gae_lambda)
            advantages.append(found)
            returns.append(found + values[at])
        even = self._whitened(advantages)
        named = {"old": old, "values": values, "advantages": even, "returns": returns}
        # Without beta the reference is `old` itself, and a checkpoint takes no tensor twice.
        return with_tokens(outputs, named | ({"reference": reference} if self.spec.beta else {}))

    def count(self, outputs: Sequence[Output]) -> int:
        """Return the number of tokens."""
        return sum(output.length for output in outputs)

    def pass_loss(self, model: torch.nn.Module, outputs: Sequence[Output], batch: Batch) -> torch.Tensor:
        """Return the summed loss of *outputs*."""
        mask = batch["learnt"]
        logps, answer = self.logps(model, batch)
        values = self._values(answer, batch)
        log_ratio = logps - spread(outputs, "old", mask)
        policy = clipped_losses(log_ratio, spread(outputs, "advantages", mask), self.spec.epsilon)
        returns = spread(outputs, "returns", mask)
        value = value_losses(values, spread(outputs, "values", mask), returns, self.spec.value_clip)
        self.add("tokens", torch.ones_like(logps), mask)
        self.add("clipped", ((log_ratio.exp() - 1).abs() > self.spec.epsilon).float(), mask)
        self.add("value_loss", value, mask)
        if self.spec.beta:
            self.add_kl(logps, spread(outputs, "reference", mask), mask)
        return torch.where(mask, policy + self.spec.value_weight * value, 0).sum()

    def asks(self) -> Mapping[str, Any]:
        """Return that the hidden states are wanted."""
        return {"output_hidden_states": True}

    def save_state(self, folder: Path) -> None:
        """Write the value head too."""
        super().save_state(folder)
        weights = {name: self.processes.whole_weight(weight) for name, weight in self._head.named_parameters()}
        if self.processes.is_first:
            save_file(
                {name: weight.detach().cpu().contiguous() for name, weight in weights.items()}, folder / VALUE_HEAD
            )

    def load_state(self, folder: Path) -> None:
        """Read what `save_state` wrote."""
        super().load_state(folder)
        self._head.load_state_dict(load_file(folder / VALUE_HEAD))

    def idle_loss(self, model: torch.nn.Module, filler: Batch) -> torch.Tensor:
        """Return zero, computed by the model and the value head."""
        answer = model(input_ids=filler["input_ids"], **self.asks())
        zero: torch.Tensor = (answer.logits.sum() + self._head(answer.hidden_states[-1]).sum()) * 0.0
        return zero

    def _whitened(self, advantages: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        """Return the advantages of this process's outputs, whitened over those of all processes."""
        lengths = [len(each) for each in advantages]
        every = self.processes.gathered(torch.cat([torch.zeros(0), *advantages]))
        first = sum(len(each) for each in every[: self.processes.rank])
        own = whitened(torch.cat(every))[first : first + sum(lengths)]
        return torch.split(own, lengths)

    def _values(self, answer: Any, batch: Batch) -> torch.Tensor:
        """Return the value before each token of *batch*: [outputs, longest]."""
        hidden = answer.hidden_states[-1][:, batch["logits_to_keep"]]
        return by_output(self._head(hidden).squeeze(-1).float(), batch)

    def _logps_and_values(self, outputs: Sequence[Output]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        logps, values = [], []
        for _, batch in self.passes(outputs):
            mask = batch["learnt"]
            found, answer = self.logps(self._model, batch)
            logps += gather(found, mask)
            values += gather(self._values(answer, batch), mask)
        return logps, values


def train(order: ChildOrder[PpoSpec], report: Report, stop_asked: StopAsked) -> RecipeFinished | RecipeStopped:
    """Train on the prompts of the order's training file."""
    with grading_means(order) as means:
        rewarder = Rewarder(order.spec.grader, means, report)
        return run_training(order, PpoObjective(ChatEncoder(order.base_path), order.spec, rewarder), report, stop_asked)


RECIPE: Final[Recipe] = train
