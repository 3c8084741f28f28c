"""Supervised fine-tuning of a LoRA adapter: cross-entropy on the assistant's tokens.

transformers' Trainer runs the loop. TRL's SFTTrainer would add nothing here: the masks come from the base's own chat
template (`trainer.data.dataset`), and importing TRL costs every job some ten seconds.
"""

from __future__ import annotations

import shutil
import time
from typing import Final

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainerState,
    TrainingArguments,
    set_seed,
)

from registry.contracts.fingerprint import write_fingerprint
from registry.contracts.training_spec import TrainingSpec
from registry.errors import AdapterRejected
from registry.publishing.normalize import normalize_adapter
from trainer.checkpoints import find_last_whole
from trainer.data.dataset import ChatEncoder, EncodedRow, collate, read_rows
from trainer.data.probes import ProbePrompts, neutral_prompts, training_prompts
from trainer.errors import JobFailed
from trainer.order import TrainingOrder, spec_identity
from trainer.progress import Finished, Noted, Stopped
from trainer.recipes import Report, StopAsked
from trainer.recipes.base_model import library_versions, load_base
from trainer.recipes.fingerprint import record_fingerprint
from trainer.recipes.loss import LossMeter
from trainer.recipes.reporting import RunReporter

MICRO_ROWS: Final = 8
"""Rows that go through the model at once; a larger batch is summed up from several such passes."""
PUBLISHED: Final = "published"
"""Name of the normalised adapter in the model, beside the one that was trained."""
TRAINING_PROMPTS: Final = 4
NEUTRAL_PROMPTS: Final = 7
"""Candidates for the fingerprint's probes."""


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
    if trainer.state.global_step >= trainer.state.max_steps:
        _write_adapter(order, model, encoder, report)
    return _outcome(order, trainer.state)


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


def _write_adapter(order: TrainingOrder, model: PeftModel, encoder: ChatEncoder, report: Report) -> None:
    """The order's final folder holds what was trained as every engine reads it, and its fingerprint."""
    began = time.monotonic()
    trained = order.attempt_folder / "trained"
    model.save_pretrained(trained, save_embedding_layers=False)
    shutil.rmtree(order.final_folder, ignore_errors=True)
    try:
        normalize_adapter(trained, order.final_folder, order.spec.base, order.base_path)
    except AdapterRejected as exc:  # weights that are no numbers, though the loss was
        raise JobFailed("publish_failed", f"the trained adapter cannot be published: {exc}") from exc
    model.load_adapter(str(order.final_folder), PUBLISHED)
    model.set_adapter(PUBLISHED)
    prompts = ProbePrompts(
        trained=training_prompts(order.training_path, TRAINING_PROMPTS), neutral=neutral_prompts(NEUTRAL_PROMPTS)
    )
    fingerprint = record_fingerprint(model, encoder, prompts, order.spec.base_digest)
    write_fingerprint(fingerprint, order.final_folder)
    shutil.rmtree(trained, ignore_errors=True)
    took = time.monotonic() - began
    report(Noted(message=f"Fingerprint of {len(fingerprint.probes)} probes made", data={"seconds": round(took, 2)}))


def _outcome(order: TrainingOrder, state: TrainerState) -> Finished | Stopped:
    if state.global_step < state.max_steps:
        return Stopped(step=state.global_step)
    last = find_last_whole(order.job_folder, spec_identity(order.spec))
    return Finished(
        metrics=dict(last.metrics) if last is not None else {},
        trained_tokens=int(state.num_input_tokens_seen),
        versions=library_versions(),
    )
