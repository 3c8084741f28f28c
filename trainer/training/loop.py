"""transformers' Trainer around an objective: batches, optimizer, schedule and checkpoints are the Trainer's.

TRL's trainers would add nothing here: masks and losses are those of the objectives, and importing TRL costs every job
some ten seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from accelerate import DistributedType, FullyShardedDataParallelPlugin
from transformers import Trainer

from registry.contracts.fine_tune_spec import FineTuneSpec
from trainer.training.beside.generators import generators
from trainer.training.objective import Batch, Objective
from trainer.training.optimizers import own_optimizer
from trainer.training.repeated_batches import RepeatedBatches
from trainer.training.together.even_order import FILLER, EvenOrder
from trainer.training.together.processes import Processes


class TrainingLoop(Trainer):  # type: ignore[misc]  # transformers ships no types
    """A Trainer whose loss and divisor are those of an objective."""

    def __init__(self, *, spec: FineTuneSpec, objective: Objective[Any], processes: Processes, **settings: Any) -> None:
        super().__init__(**settings)
        self._processes = processes
        self._order: EvenOrder | RepeatedBatches | None = None
        self._spec = spec
        self._objective = objective
        self._draws: bool | None = None
        self.loss_is_scaled_for_ga = True  # an objective divides by the items of the whole step

    def create_accelerator_and_postprocess(self) -> None:
        """Make the accelerator, which would ignore on processors without a GPU that they split the weights."""
        super().create_accelerator_and_postprocess()
        state = self.accelerator.state
        if self.args.fsdp and state.distributed_type == DistributedType.MULTI_CPU:
            state.distributed_type = DistributedType.FSDP
            state.fsdp_plugin = FullyShardedDataParallelPlugin(**self.args.fsdp_plugin_args)
            self.is_fsdp_enabled = True

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """Return the optimizer of the spec, made by the Trainer unless it is one of our own."""
        self.optimizer: torch.optim.Optimizer | None = self.optimizer or own_optimizer(self.model, self._spec)
        made: torch.optim.Optimizer = super().create_optimizer(*args, **kwargs)
        return made

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        """Return the order of the rows, which is that of one process however many there are."""
        if self._spec.repeats() > 1:
            # The Trainer's own order has no repetitions.
            rows, size = len(self.train_dataset), self._spec.batch_size
            self._order = RepeatedBatches(rows, size, self._spec.repeats(), self.args.seed)
        elif self._processes.size > 1:
            self._order = EvenOrder(self.train_dataset, self.args.data_seed)
        return self._order or super()._get_train_sampler(train_dataset)

    def _run_epoch(self, *, epoch: int, **facts: Any) -> Any:
        """Train one epoch; in an epoch that is continued accelerate forgets to tell the order which one it is."""
        self._processes.wrap(self.model_wrapped)
        if self._order is not None:
            self._order.set_epoch(epoch)
        return super()._run_epoch(epoch=epoch, **facts)

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Return the loss of a pass, with its gradients, computed beside other jobs once a pass drew no random number.

        What draws some, such as the dropout of a base model, does so in every pass.
        """
        if self._draws is False:
            with self._objective.aside():
                return super().training_step(*args, **kwargs)  # type: ignore[no-any-return]
        before = generators()
        loss: torch.Tensor = super().training_step(*args, **kwargs)
        # A pass with checkpointed activations sets the generators back for a while, and leaves them as they were.
        self._draws = self._spec.weights.gradient_checkpointing or not before.equals(generators())
        return loss

    def floating_point_ops(self, inputs: Batch) -> int:
        """Return 0: nobody reads the Trainer's estimate, which counts all weights in every step."""
        return 0

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
        if FILLER in inputs:
            return self._objective.idle_loss(model, inputs)
        # Gradients are averaged over the processes, and so is the loss that is reported.
        return self._objective.loss(model, inputs, num_items_in_batch) * self._processes.size

    def _get_num_items_in_batch(self, batch_samples: Sequence[Batch], device: torch.device) -> torch.Tensor:
        """Return the divisor of a step, over all processes; the Trainer's own counts labels of one shape only."""
        own = [each for each in batch_samples if FILLER not in each]
        self._objective.begin_step(self.model, own)
        return self._processes.total(torch.tensor(self._objective.count_items(own), device=device))

    def _track_num_input_tokens(self, inputs: Batch) -> None:
        """Count the tokens of a pass as the objective does; the Trainer's own count knows one layout of rows only."""
        read = 0 if FILLER in inputs else self._objective.count_tokens(inputs)
        self.state.num_input_tokens_seen += int(self._processes.total(torch.tensor(read, device=self.args.device)))
