"""The end of every recipe: write the result as what it becomes, describe the outcome."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from peft import PeftModel
from transformers import PreTrainedModel, TrainerState

from registry.contracts.fine_tune_spec import FineTuneSpec
from registry.contracts.fingerprint import write_fingerprint
from registry.contracts.job_spec import JobSpec
from registry.states import ResultKind
from trainer.checkpoints import TRAINED, find_last_whole
from trainer.data.dataset import ChatEncoder
from trainer.data.probes import Messages, ProbePrompts, neutral_prompts
from trainer.order import ChildOrder, spec_identity
from trainer.progress import Noted, RecipeFinished, Report
from trainer.training.base_model import library_versions
from trainer.training.fingerprint import record_fingerprint
from trainer.training.machine import machine_facts, peak_bytes
from trainer.training.merging.merged_folder import merged_model
from trainer.training.objective import Objective
from trainer.training.steps.kept_steps import FinalSteps
from trainer.training.steps.step_folders import NEUTRAL_PROMPTS, TRAINING_PROMPTS, restore_step, write_earlier_step
from trainer.training.steps.written_forms import as_served, loaded_to_merge, write_normal
from trainer.training.weights import check_finite, has_base_as_stored, initial_folder, release, save_adapter
from trainer.training.whole_model import write_model

PUBLISHED: Final = "published"
"""Name of the normalised adapter in the model, where it has another shape than the trained one beside it."""


def finish(
    order: ChildOrder[FineTuneSpec],
    model: PreTrainedModel | PeftModel,
    objective: Objective[Any],
    report: Report,
    steps: FinalSteps,
) -> tuple[int, ...]:
    """Write the result to the order's final folder, as what it becomes in the registry; return the steps beside it."""
    began = time.monotonic()
    served = tuple(
        step for step in steps.earlier if write_earlier_step(order, model, objective, report, steps.kept, step)
    )
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
        restore_step(model, objective, steps.kept, steps.result)
    loss = steps.kept.choice.best_loss
    if spec.keep == "best" and loss is not None:
        message = f"The result is step {steps.result}, which has the lowest validation loss, {loss:.4f}"
        data = {"step": steps.result, "last_step": steps.last, "full_valid_loss": loss}
        report(Noted(message=message, data=data))


def _finish_adapter(
    order: ChildOrder[FineTuneSpec], model: PeftModel, objective: Objective[Any], report: Report
) -> str:
    """Write the adapter as every engine reads it, with its fingerprint."""
    with objective.aside():
        write_normal(order, model, order.final_folder)
    if not has_base_as_stored(order.spec):
        release(model)
    model = as_served(order, model, order.final_folder, PUBLISHED)
    with objective.aside():
        trained = objective.probe_prompts(order.inputs["training_file"], TRAINING_PROMPTS)
        probes = fingerprint_adapter(order, model, objective.encoder, trained, report)
    return f"Fingerprint of {probes} probes made"


def _finish_reward_model(
    order: ChildOrder[FineTuneSpec], model: PeftModel, objective: Objective[Any], report: Report
) -> str:
    """Write the adapter as an engine would read it, and beside it what the objective adds: the score head."""
    write_normal(order, model, order.final_folder)
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
        model = loaded_to_merge(order)
    write_model(merged_model(model), order.base_path, order.final_folder)
    return "Adapter merged into a checkpoint"


FINISHERS: Final[Mapping[ResultKind, Callable[[ChildOrder[Any], Any, Objective[Any], Report], str]]] = {
    ResultKind.ADAPTER: _finish_adapter,
    ResultKind.CHECKPOINT: _finish_checkpoint,
    ResultKind.REWARD: _finish_reward_model,
}
"""Kind of result -> the function that writes it and returns a message for the job's events."""


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
        peak_bytes=peak_bytes(order.spec.process_count()),
    )
