"""transformers' Trainer around an objective: batches, optimizer, schedule and checkpoints are the Trainer's.

TRL's trainers would add nothing here: masks and losses are those of the objectives, and importing TRL costs every job
some ten seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import Trainer

from registry.contracts.fine_tune_spec import FineTuneSpec
from trainer.training.objective import Batch, Objective
from trainer.training.optimizers import own_optimizer
from trainer.training.repeated_batches import RepeatedBatches


class TrainingLoop(Trainer):  # type: ignore[misc]  # transformers ships no types
    """A Trainer whose loss and divisor are those of an objective."""

    def __init__(self, *, spec: FineTuneSpec, objective: Objective[Any], **settings: Any) -> None:
        super().__init__(**settings)
        self._spec = spec
        self._objective = objective
        self.loss_is_scaled_for_ga = True  # an objective divides by the items of the whole step

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """Return the optimizer of the spec, made by the Trainer unless it is one of our own."""
        self.optimizer: torch.optim.Optimizer | None = self.optimizer or own_optimizer(self.model, self._spec)
        made: torch.optim.Optimizer = super().create_optimizer(*args, **kwargs)
        return made

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        """Return the order of the rows; the Trainer's own has no repetitions."""
        if self._spec.repeats() == 1:
            return super()._get_train_sampler(train_dataset)
        size = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        return RepeatedBatches(len(self.train_dataset), size, self._spec.repeats(), self.args.seed)

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """Return the objective's loss of one pass."""
        if num_items_in_batch is None:
            raise ValueError("the Trainer gave no divisor")
        return self._objective.loss(model, inputs, num_items_in_batch)

    def _get_num_items_in_batch(self, batch_samples: Sequence[Batch], device: torch.device) -> torch.Tensor:
        """Return the divisor of a step, over all processes; the Trainer's own counts labels of one shape only."""
        self._objective.begin_step(self.model_wrapped, batch_samples, self._total)
        return self._total(torch.tensor(self._objective.count_items(batch_samples), device=device))

    def _total(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sums of *values* over all processes."""
        summed: torch.Tensor = self.accelerator.reduce(values, reduction="sum")
        return summed
