"""The optimizers that transformers' Trainer does not make itself: LoRA+, GaLore, APOLLO."""

from __future__ import annotations

import re
from typing import Any, Final

import torch
from peft.optimizers import create_loraplus_optimizer

from registry.contracts.fine_tune_spec import FineTuneSpec
from registry.contracts.weights_spec import PROJECTING
from registry.publishing.checks import NOT_ADAPTED
from trainer.training.projected_adamw import ProjectedAdamW

TRAINERS_OWN: Final = {"adamw": "adamw_torch", "adafactor": "adafactor"}
"""Optimizer -> its name in `TrainingArguments`; for the others that value is not used."""


def own_optimizer(model: torch.nn.Module, spec: FineTuneSpec) -> torch.optim.Optimizer | None:
    """Return the optimizer of *model*, None if the Trainer makes it."""
    if spec.weights.optimizer.kind in PROJECTING:
        return _projecting(model, spec)
    if spec.lora_shape() is not None and spec.lora.plus_ratio > 1.0:
        made: torch.optim.Optimizer = create_loraplus_optimizer(
            model=model,
            optimizer_cls=torch.optim.AdamW,
            lr=spec.learning_rate,
            loraplus_lr_ratio=spec.lora.plus_ratio,
            weight_decay=0.0,
            loraplus_weight_decay=0.0,
        )
        return made
    return None


def _projecting(model: torch.nn.Module, spec: FineTuneSpec) -> ProjectedAdamW:
    asked = spec.weights.optimizer
    projected: list[torch.nn.Parameter] = []
    plain: list[torch.nn.Parameter] = []
    for name, parameter in model.named_parameters():
        module = re.sub(r"\.weight$", "", name).rpartition(".")[2]
        is_matrix = parameter.ndim == 2 and NOT_ADAPTED.search(module) is None
        (projected if is_matrix else plain).append(parameter)
    groups: list[dict[str, Any]] = [
        {
            "params": projected,
            "projection": asked.kind,
            "rank": asked.rank,
            "interval": asked.interval,
            "scale": asked.scale,
            "seed": spec.seed,
        },
        {"params": plain},
    ]
    return ProjectedAdamW(groups, lr=spec.learning_rate)
