"""Supervised fine-tuning of a LoRA adapter: cross-entropy on the assistant's tokens.

transformers' Trainer runs the loop. TRL's SFTTrainer would add nothing here: the masks come from the base's own chat
template (`trainer.data.dataset`), and importing TRL costs every job some ten seconds.
"""

from __future__ import annotations

from typing import Final

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainingArguments,
    set_seed,
)

from registry.contracts.fine_tune_spec import FineTuneSpec
from registry.contracts.supervised_spec import SupervisedSpec
from trainer.checkpoints import find_last_whole
from trainer.data.dataset import ChatEncoder, EncodedRow, collate, count_ignored, read_rows
from trainer.data.probes import training_prompts
from trainer.order import ChildOrder, spec_identity
from trainer.progress import Noted, RecipeFinished, RecipeStopped
from trainer.recipes import Recipe, Report, StopAsked
from trainer.recipes.base_model import load_base
from trainer.recipes.finish import finish_adapter, outcome_of
from trainer.recipes.loss import LossMeter
from trainer.recipes.reporting import RunReporter

MICRO_ROWS: Final = 8
"""Rows that go through the model at once; the gradients of a larger batch are summed over several such passes."""
TRAINING_PROMPTS: Final = 4
"""Candidates for the fingerprint's probes from the training data."""


def train(order: ChildOrder[SupervisedSpec], report: Report, stop_asked: StopAsked) -> RecipeFinished | RecipeStopped:
    """Train the adapter of *order* into its final folder, from the last complete checkpoint if there is one."""
    spec = order.spec
    torch.set_num_threads(order.threads)
    encoder = ChatEncoder(order.base_path)
    rows = read_rows(order.inputs["training_file"], encoder, spec.max_length, "training_file")
    valid = _validation_rows(order, encoder)
    if left_out := count_ignored(order.inputs["training_file"]):
        listed = ", ".join(f"{field} of {count} messages" for field, count in left_out.items())
        report(Noted(message=f"Not trained on: {listed}", level="warn", data=dict(left_out)))
    if stop_asked():
        return RecipeStopped(step=0)
    model = attach_lora(load_base(order.base_path), spec)
    start = find_last_whole(order.job_folder, spec_identity(spec))
    if start is not None:
        report(Noted(message=f"Continuing from the checkpoint of step {start.step}", data={"step": start.step}))
    meter = LossMeter()
    reporter = RunReporter(order, report, stop_asked, meter)
    reporter.validate_on(valid)
    trainer = Trainer(
        model=model,
        args=_arguments(order, len(rows)),
        train_dataset=rows,
        data_collator=collate,
        compute_loss_func=meter.loss,
        callbacks=[reporter],
    )
    # The reporter has every step already, and the end of the child's log is kept for what explains a crash.
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=None if start is None else str(start.folder))
    # A run that was asked to stop during its last step is finished as well.
    if trainer.state.global_step >= trainer.state.max_steps:
        trained = training_prompts(order.inputs["training_file"], TRAINING_PROMPTS)
        finish_adapter(order, model, encoder, trained, report)
    return outcome_of(order, trainer.state)


def attach_lora(base: PreTrainedModel, spec: FineTuneSpec) -> PeftModel:
    """Return *base* with a new adapter whose initial weights depend on the spec's seed alone."""
    set_seed(spec.seed)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=spec.lora.rank,
        lora_alpha=spec.lora.alpha,
        lora_dropout=spec.lora.dropout,
        target_modules=list(spec.lora.target_modules),
    )
    return get_peft_model(base, config)


def _validation_rows(order: ChildOrder[SupervisedSpec], encoder: ChatEncoder) -> list[EncodedRow]:
    path = order.inputs.get("validation_file")
    return [] if path is None else read_rows(path, encoder, order.spec.max_length, "validation_file")


def _arguments(order: ChildOrder[SupervisedSpec], rows: int) -> TrainingArguments:
    spec = order.spec
    # A divisor, so that every pass has the same number of rows and the batch is as large as asked for.
    micro = max(size for size in range(1, MICRO_ROWS + 1) if spec.batch_size % size == 0)
    on_gpu = torch.cuda.is_available()
    return TrainingArguments(
        output_dir=str(order.attempt_folder),
        num_train_epochs=spec.n_epochs,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=spec.batch_size // micro,
        learning_rate=spec.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=round(spec.warmup_ratio * spec.n_epochs * -(-rows // spec.batch_size)),
        optim="adamw_torch",
        bf16=on_gpu,
        use_cpu=not on_gpu,
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
    )


RECIPE: Final[Recipe] = train
