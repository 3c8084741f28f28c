"""The end of every recipe: write the result as what it becomes, describe the outcome."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from peft import LoraConfig, PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import PreTrainedModel, TrainerState

from registry.contracts.fine_tune_spec import FineTuneSpec
from registry.contracts.fingerprint import write_fingerprint
from registry.contracts.job_spec import JobSpec, ResultKind
from registry.errors import AdapterRejected
from registry.publishing.adapter_files import WEIGHTS
from registry.publishing.adapter_weights import check_effect
from registry.publishing.checks import base_files
from registry.publishing.normalize import normalize_adapter
from registry.publishing.whole_models import check_checkpoint
from trainer.checkpoints import TRAINED, find_last_whole
from trainer.data.dataset import ChatEncoder
from trainer.data.probes import Messages, ProbePrompts, neutral_prompts
from trainer.errors import JobFailed
from trainer.order import ChildOrder, spec_identity
from trainer.progress import Noted, RecipeFinished, Report
from trainer.training.base_model import library_versions, load_base
from trainer.training.fingerprint import NEUTRAL_PROBES, record_fingerprint
from trainer.training.machine import machine_facts
from trainer.training.objective import Objective
from trainer.training.steps.kept_steps import FinalSteps
from trainer.training.weights import TRAINED as TRAINED_ADAPTER
from trainer.training.weights import (
    add_stored,
    check_finite,
    has_base_as_stored,
    initial_folder,
    load_stored,
    release,
    save_adapter,
)
from trainer.training.whole_model import write_model

PUBLISHED: Final = "published"
"""Name of the normalised adapter in the model, where it has another shape than the trained one beside it."""
TRAINING_PROMPTS: Final = 4
"""Candidates for the fingerprint's probes from the training data."""
FEW_TRAINED: Final = 3
"""Candidates from the training data for the probes of an earlier step, which cost as much time as a result's."""
NEUTRAL_PROMPTS: Final = 7
"""Candidates for probes that belong to no data set."""
SPARED_BYTES: Final = 1 << 28
"""Bytes of the disk that an earlier step of a whole model leaves free for all else."""


def finish(
    order: ChildOrder[FineTuneSpec],
    model: PreTrainedModel | PeftModel,
    objective: Objective[Any],
    report: Report,
    steps: FinalSteps,
) -> tuple[int, ...]:
    """Write the result to the order's final folder, as what it becomes in the registry; return the steps beside it."""
    began = time.monotonic()
    served = tuple(step for step in steps.earlier if _finish_earlier(order, model, objective, report, steps, step))
    _restore_result(order.spec, model, objective, report, steps)
    check_finite(model, steps.result)
    shutil.rmtree(order.final_folder, ignore_errors=True)
    done = FINISHERS[order.spec.result_kind()](order, model, objective, report)
    for folder in (order.attempt_folder / TRAINED, initial_folder(order)):
        shutil.rmtree(folder, ignore_errors=True)
    report(Noted(message=done, data={"seconds": round(time.monotonic() - began, 2)}))
    return served


def _restore_result(
    spec: FineTuneSpec,
    model: PreTrainedModel | PeftModel,
    objective: Objective[Any],
    report: Report,
    steps: FinalSteps,
) -> None:
    if steps.kept.has(steps.result):
        _restore(model, objective, steps, steps.result)
    loss = steps.kept.choice.best_loss
    if spec.keep == "best" and loss is not None:
        message = f"The result is step {steps.result}, which has the lowest validation loss, {loss:.4f}"
        data = {"step": steps.result, "last_step": steps.last, "full_valid_loss": loss}
        report(Noted(message=message, data=data))


def _restore(model: PreTrainedModel | PeftModel, objective: Objective[Any], steps: FinalSteps, step: int) -> None:
    """Give everything that is trained the values that it had at *step*."""
    steps.kept.restore(model, step)
    objective.load_result(steps.kept.folder_of(step))


def _finish_earlier(  # noqa: PLR0913
    order: ChildOrder[FineTuneSpec],
    model: PreTrainedModel | PeftModel,
    objective: Objective[Any],
    report: Report,
    steps: FinalSteps,
    step: int,
) -> bool:
    """Write an earlier step to its folder like a result; return False if it cannot be published."""
    folder = order.served_folder(step)
    _restore(model, objective, steps, step)
    try:
        STEP_WRITERS[order.spec.result_kind()](order, model, objective, folder)
    except (AdapterRejected, JobFailed) as exc:
        report(Noted(message=f"The checkpoint of step {step} is not served: {exc}", level="warn", data={"step": step}))
        shutil.rmtree(folder, ignore_errors=True)
        return False
    return True


def _write_adapter_step(
    order: ChildOrder[FineTuneSpec], model: PeftModel, objective: Objective[Any], folder: Path
) -> None:
    """Write the adapter with a fingerprint of fewer probes than a result has."""
    trained = objective.probe_prompts(order.inputs["training_file"], TRAINING_PROMPTS)
    few = ProbePrompts(trained=trained[:FEW_TRAINED], neutral=neutral_prompts(NEUTRAL_PROBES))
    every = ProbePrompts(trained=trained, neutral=neutral_prompts(NEUTRAL_PROMPTS))
    try:
        _normalise(order, model, folder)
        check_effect(folder)
        probed = _as_served(order, model, folder, folder.name)
        try:
            fingerprint = record_fingerprint(probed, objective.encoder, few, order.spec.base_digest)
        except JobFailed:
            fingerprint = record_fingerprint(probed, objective.encoder, every, order.spec.base_digest)
        write_fingerprint(fingerprint, folder)
    finally:
        if folder.name in model.peft_config:
            model.set_adapter(TRAINED_ADAPTER)
            model.delete_adapter(folder.name)


def _write_reward_step(
    order: ChildOrder[FineTuneSpec], model: PeftModel, objective: Objective[Any], folder: Path
) -> None:
    _normalise(order, model, folder)
    objective.save_result(folder)


def _write_whole_step(
    order: ChildOrder[FineTuneSpec], model: PreTrainedModel | PeftModel, objective: Objective[Any], folder: Path
) -> None:
    """Write the whole model, where the disk has room for it and for its copy among the artifacts."""
    needed = 2 * sum(path.stat().st_size for path in base_files(order.base_path))
    if (free := shutil.disk_usage(order.attempt_folder).free) < needed + SPARED_BYTES:
        raise JobFailed("storage_full", f"{free} bytes are free, and a whole model with its copy takes {needed}")
    if order.spec.weights.is_full:
        write_model(model, order.base_path, folder)
    else:
        save_adapter(order, model, order.attempt_folder / TRAINED)
        # A base model of its own, as the trained one is needed for the next step.
        merged = _merged(_loaded_to_merge(order))
        write_model(merged, order.base_path, folder)
        release(merged)
    check_checkpoint(folder, order.base_path)


def _finish_adapter(
    order: ChildOrder[FineTuneSpec], model: PeftModel, objective: Objective[Any], report: Report
) -> str:
    """Write the adapter as every engine reads it, with its fingerprint."""
    _normalise(order, model, order.final_folder)
    if not has_base_as_stored(order.spec):
        release(model)
    model = _as_served(order, model, order.final_folder, PUBLISHED)
    trained = objective.probe_prompts(order.inputs["training_file"], TRAINING_PROMPTS)
    return f"Fingerprint of {fingerprint_adapter(order, model, objective.encoder, trained, report)} probes made"


def _load_published(model: PeftModel, folder: Path, name: str) -> None:
    """Have *model* compute with the adapter in *folder*, which gets *name* if it needs a place of its own."""
    trained, published = model.peft_config[model.active_adapter], LoraConfig.from_pretrained(folder)
    if _shape(trained) == _shape(published):
        # In the place of the trained adapter: another one beside it takes as long as the rest of the end.
        set_peft_model_state_dict(model, load_file(folder / WEIGHTS), adapter_name=model.active_adapter)
        return
    add_stored(model, folder, name)


def _shape(config: LoraConfig) -> tuple[int, int, bool, frozenset[str]]:
    return config.r, config.lora_alpha, config.use_rslora, frozenset(config.target_modules)


def _finish_reward_model(
    order: ChildOrder[FineTuneSpec], model: PeftModel, objective: Objective[Any], report: Report
) -> str:
    """Write the adapter as an engine would read it, and beside it what the objective adds: the score head."""
    _normalise(order, model, order.final_folder)
    objective.save_result(order.final_folder)
    return "Reward model written"


def _finish_checkpoint(
    order: ChildOrder[FineTuneSpec], model: PreTrainedModel | PeftModel, objective: Objective[Any], report: Report
) -> str:
    """Write the whole model, with the trained adapter merged if there is one."""
    if order.spec.weights.is_full:
        write_model(model, order.base_path, order.final_folder)
        return "Checkpoint written"
    save_adapter(order, model, order.attempt_folder / TRAINED)
    if not has_base_as_stored(order.spec):
        release(model)
        model = _loaded_to_merge(order)
    write_model(_merged(model), order.base_path, order.final_folder)
    return "Adapter merged into a checkpoint"


def _loaded_to_merge(order: ChildOrder[FineTuneSpec]) -> PeftModel:
    """Return the base model as it is on disk with the adapter that was saved last."""
    dtype = None if has_base_as_stored(order.spec) else torch.float32
    return PeftModel.from_pretrained(load_base(order.base_path, dtype=dtype), order.attempt_folder / TRAINED)


def _merged(model: PeftModel) -> PreTrainedModel:
    try:
        return model.merge_and_unload(safe_merge=True)
    except ValueError as exc:  # weights that are not finite, though the loss was
        raise JobFailed("publish_failed", f"the trained adapter cannot be merged: {exc}") from exc


FINISHERS: Final[Mapping[ResultKind, Callable[[ChildOrder[Any], Any, Objective[Any], Report], str]]] = {
    ResultKind.ADAPTER: _finish_adapter,
    ResultKind.CHECKPOINT: _finish_checkpoint,
    ResultKind.REWARD: _finish_reward_model,
}
"""Kind of result -> the function that writes it and returns a message for the job's events."""
STEP_WRITERS: Final[Mapping[ResultKind, Callable[[ChildOrder[Any], Any, Objective[Any], Path], None]]] = {
    ResultKind.ADAPTER: _write_adapter_step,
    ResultKind.CHECKPOINT: _write_whole_step,
    ResultKind.REWARD: _write_reward_step,
}
"""Kind of result -> the function that writes an earlier step of the same job, to which the model is set."""


def _as_served(order: ChildOrder[FineTuneSpec], model: PeftModel, folder: Path, name: str) -> PeftModel:
    """Return a model with the adapter in *folder* active, read back from disk, on the base as it is on disk.

    Replicas load those bytes, so the fingerprint is made of them.
    """
    if not has_base_as_stored(order.spec):
        return load_stored(load_base(order.base_path), folder)
    _load_published(model, folder, name)
    return model


def _normalise(order: ChildOrder[FineTuneSpec], model: PeftModel, target: Path) -> None:
    folder = order.attempt_folder / TRAINED
    save_adapter(order, model, folder)
    try:
        normalize_adapter(folder, target, order.spec.base, order.base_path)
    except AdapterRejected as exc:  # weights that are not finite, though the loss was
        raise JobFailed("publish_failed", f"the trained adapter cannot be published: {exc}") from exc


def fingerprint_adapter(
    order: ChildOrder[JobSpec], model: PeftModel, encoder: ChatEncoder, trained: list[Messages], report: Report
) -> int:
    """Write the fingerprint of the model's active adapter into the final folder; return the number of its probes."""
    prompts = ProbePrompts(trained=trained, neutral=neutral_prompts(NEUTRAL_PROMPTS))
    fingerprint = record_fingerprint(model, encoder, prompts, order.spec.base_digest)
    write_fingerprint(fingerprint, order.final_folder)
    if not fingerprint.shows_effect():
        text = "No effect: in none of the probes of its fingerprint does the adapter change what the base model answers"
        report(Noted(message=text, level="warn"))
    return len(fingerprint.probes)


def outcome_of(order: ChildOrder[JobSpec], state: TrainerState, result: int, served: tuple[int, ...]) -> RecipeFinished:
    """Return the end of a run of transformers' Trainer, with the metrics of its last checkpoint."""
    last = find_last_whole(order.job_folder, spec_identity(order.spec))
    return RecipeFinished(
        metrics=dict(last.metrics) if last is not None else {},
        result_step=result,
        served_steps=served,
        trained_tokens=int(state.num_input_tokens_seen),
        versions=library_versions(),
        machine=machine_facts(order.threads),
    )
