"""The settings of transformers' Trainer that follow from a spec."""

from __future__ import annotations

import torch
from transformers import TrainingArguments

from registry.contracts.fine_tune_spec import FineTuneSpec
from trainer.order import ChildOrder
from trainer.training.optimizers import TRAINERS_OWN
from trainer.training.precision import multiplies_bf16
from trainer.training.together.sharing import sharing_arguments


def training_arguments(order: ChildOrder[FineTuneSpec], rows: int) -> TrainingArguments:
    """Return the arguments for a training file of *rows* rows."""
    spec = order.spec
    # A divisor, so that every pass has the same number of rows and the batch is as large as asked for.
    share = spec.batch_size // spec.parallel.processes
    fitting = max(size for size in range(1, spec.rows_at_once() + 1) if share % size == 0)
    micro = spec.weights.micro_batch_size or fitting
    on_gpu = torch.cuda.is_available()
    return TrainingArguments(
        output_dir=str(order.attempt_folder),
        num_train_epochs=spec.n_epochs,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=share // micro,
        learning_rate=spec.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=round(spec.warmup_ratio * spec.n_epochs * spec.repeats() * -(-rows // spec.batch_size)),
        optim=TRAINERS_OWN.get(spec.weights.optimizer.kind, "adamw_torch"),
        gradient_checkpointing=spec.weights.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False} if spec.weights.gradient_checkpointing else None,
        dataloader_pin_memory=on_gpu,
        seed=spec.seed,
        data_seed=spec.seed,
        logging_steps=1,
        # The filter shows the mean of earlier steps in place of NaN, and `on_log` would miss the divergence.
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=spec.checkpoint_steps,
        include_num_input_tokens_seen="non_padding",
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to="none",
        **{
            "use_cpu": not on_gpu,
            "bf16": multiplies_bf16(spec.weights.precision),
            **sharing_arguments(spec.parallel),
        },
    )
