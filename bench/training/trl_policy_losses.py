"""Record what TRL 1.16 computes of GRPO and RLOO, for `tests/trainer/training/sampling/test_trl_policy_losses.py`.

    PYTHONPATH=FOLDER_OF_TRL python bench/training/trl_policy_losses.py > tests/.../trl_policy_losses.json

TRL's own loss functions are called with log-probabilities that were drawn, so that no model is needed.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import torch
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.rloo_trainer import RLOOTrainer

LENGTHS = (5, 3, 4, 2, 5, 5, 1, 4)
PROMPTS, LONGEST, EPSILON = 2, 5, 0.2


def drawn() -> dict[str, torch.Tensor]:
    """Draw log-probabilities by three models, and rewards."""
    torch.manual_seed(0)
    shape = (len(LENGTHS), LONGEST)
    logps = -3 * torch.rand(shape, dtype=torch.float64)
    return {
        "logps": logps,
        "old": logps + 0.3 * torch.randn(shape, dtype=torch.float64),
        "reference": logps + 0.3 * torch.randn(shape, dtype=torch.float64),
        "rewards": torch.rand(PROMPTS, len(LENGTHS) // PROMPTS, dtype=torch.float64),
    }


class OneProcess:
    """The part of an accelerator that the losses ask for."""

    num_processes = 1

    def gather(self, values: Any) -> Any:
        """Return *values*."""
        return values

    def reduce(self, values: Any, reduction: str) -> Any:
        """Return *values*."""
        return values


def loss_of(trainer: Any, logps: torch.Tensor, given: dict[str, torch.Tensor], **settings: Any) -> torch.Tensor:
    """Return TRL's loss; *trainer* is the class, of which only the loss function runs."""
    made = object.__new__(trainer)
    defaults = {
        "args": SimpleNamespace(use_bias_correction_kl=False, delta=None, steps_per_generation=1),
        "accelerator": OneProcess(),
        "model": SimpleNamespace(training=True),
        "_metrics": {"train": defaultdict(list)},
        "aux_loss_enabled": False,
        "use_vllm": False,
        "_entropy_bonus_enabled": False,
        "off_policy_mask_threshold": None,
        "importance_sampling_level": "token",
        "top_entropy_quantile": 1.0,
        "current_gradient_accumulation_steps": 1,
        "max_completion_length": LONGEST,
        "epsilon_low": EPSILON,
        "epsilon_high": EPSILON,
    }
    vars(made).update(defaults | settings)
    OneProcess.gather_for_metrics = OneProcess.gather  # type: ignore[attr-defined]
    made._get_per_token_logps_and_entropies = lambda *_, **__: (logps, torch.zeros_like(logps), None)
    loss: torch.Tensor = made._compute_loss(None, given)
    return loss


def recorded(trainer: Any, advantages: torch.Tensor, **settings: Any) -> dict[str, Any]:
    """Return loss and gradient by the log-probabilities."""
    tensors = drawn()
    mask = torch.tensor([[at < length for at in range(LONGEST)] for length in LENGTHS])
    logps = tensors["logps"].requires_grad_()
    given = {
        "prompt_ids": torch.zeros(len(LENGTHS), 1).long(),
        "prompt_mask": torch.ones(len(LENGTHS), 1).long(),
        "completion_ids": torch.zeros(len(LENGTHS), LONGEST).long(),
        "completion_mask": mask.long(),
        "advantages": advantages.flatten(),
        "old_per_token_logps": tensors["old"],
        "ref_per_token_logps": tensors["reference"],
        "old_logps": (tensors["old"] * mask).sum(1),
        "num_items_in_batch": mask.sum(),
    }
    loss = loss_of(trainer, logps, given, **settings)
    (gradient,) = torch.autograd.grad(loss, logps)
    return {"loss": float(loss.detach()), "gradient": gradient.tolist()}


def main() -> None:
    """Write the cases as JSON."""
    tensors = drawn()
    rewards = tensors["rewards"]
    # The trainers compute the advantages amid their sampling; these are the lines of TRL 1.16.
    group = (rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + 1e-4)
    mask = torch.tensor([[at < length for at in range(LONGEST)] for length in LENGTHS])
    distance = ((tensors["old"] - tensors["reference"]) * mask).sum(1).view(rewards.shape)
    penalised = rewards - 0.05 * distance
    others = (penalised.sum(1, keepdim=True) - penalised) / (penalised.shape[1] - 1)
    cases = {name: recorded(GRPOTrainer, group, loss_type=name, beta=0.04) for name in ("grpo", "dapo", "dr_grpo")}
    cases["rloo"] = recorded(RLOOTrainer, penalised - others, beta=0.05)
    given = {name: values.tolist() for name, values in tensors.items()}
    sys.stdout.write(json.dumps({"lengths": LENGTHS, **given, "cases": cases}, indent=1) + "\n")


if __name__ == "__main__":
    main()
