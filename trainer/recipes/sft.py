"""Supervised fine-tuning of a LoRA adapter: cross-entropy on the assistant's tokens.

transformers' Trainer runs the loop. TRL's SFTTrainer would add nothing here: the masks come from the base's own chat
template (`trainer.dataset`), and importing TRL costs every job some ten seconds.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Final

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainerState,
    TrainingArguments,
    set_seed,
)

from registry.training_spec import TrainingSpec
from trainer.checkpoints import find_last_whole
from trainer.dataset import ChatEncoder, EncodedRow, collate, read_rows
from trainer.errors import JobFailed
from trainer.order import TrainingOrder, spec_identity
from trainer.progress import Finished, Noted, Stopped
from trainer.recipes import Report, StopAsked
from trainer.recipes.loss import LossMeter
from trainer.recipes.reporting import RunReporter

MICRO_ROWS: Final = 8
"""Rows that go through the model at once; a larger batch is summed up from several such passes."""
VERSIONS_OF: Final = ("torch", "transformers", "peft", "accelerate", "tokenizers", "safetensors")


def train(order: TrainingOrder, report: Report, stop_asked: StopAsked) -> Finished | Stopped:
    """Train the adapter of *order* into its final folder, from the last whole checkpoint if there is one."""
    spec = order.spec
    torch.set_num_threads(order.threads)
    encoder = ChatEncoder(order.base_path)
    rows = read_rows(order.training_path, encoder, spec.max_length, "training_file")
    valid = _validation_rows(order, encoder)
    if stop_asked():
        return Stopped(step=0)
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
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=None if start is None else str(start.folder))
    return _outcome(order, model, trainer.state)


def load_base(folder: Path) -> PreTrainedModel:
    """The base model, frozen weights only: float32 on a CPU (bfloat16 is emulated on most), else bfloat16."""
    dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    try:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True)
    except (OSError, ValueError) as exc:
        raise JobFailed("base_unreadable", f"the base model cannot be loaded: {exc}", "model") from exc


def attach_lora(base: PreTrainedModel, spec: TrainingSpec) -> PeftModel:
    """*base* with a fresh adapter that depends on the spec's seed alone."""
    set_seed(spec.seed)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=spec.lora.rank,
        lora_alpha=spec.lora.alpha,
        lora_dropout=spec.lora.dropout,
        target_modules=list(spec.lora.target_modules),
    )
    return get_peft_model(base, config)


def _validation_rows(order: TrainingOrder, encoder: ChatEncoder) -> list[EncodedRow]:
    if order.validation_path is None:
        return []
    return read_rows(order.validation_path, encoder, order.spec.max_length, "validation_file")


def _arguments(order: TrainingOrder, rows: int) -> TrainingArguments:
    spec = order.spec
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
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=spec.checkpoint_steps,
        include_num_input_tokens_seen="non_padding",
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to="none",
    )


def _outcome(order: TrainingOrder, model: PeftModel, state: TrainerState) -> Finished | Stopped:
    if state.global_step < state.max_steps:
        return Stopped(step=state.global_step)
    written = model.peft_config["default"]
    written.base_model_name_or_path, written.revision = order.spec.base, order.spec.base_digest
    model.save_pretrained(order.final_folder, save_embedding_layers=False)
    (order.final_folder / "README.md").unlink(missing_ok=True)  # a form that PEFT leaves for people to fill in
    last = find_last_whole(order.job_folder, spec_identity(order.spec))
    return Finished(
        metrics=dict(last.metrics) if last is not None else {},
        trained_tokens=int(state.num_input_tokens_seen),
        versions={name: version(name) for name in VERSIONS_OF},
    )
