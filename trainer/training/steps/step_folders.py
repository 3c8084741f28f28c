"""Folders of the earlier steps that are published beside a result, each written like the result itself.

Folders of an adapter are written while the run goes on, where nothing but the trained weights is needed for it, so that
they answer requests before the job has ended; all others at its end.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from registry.contracts.fine_tune_spec import FineTuneSpec
from registry.contracts.fingerprint import FINGERPRINT, write_fingerprint
from registry.errors import AdapterRejected
from registry.publishing.adapter_weights import check_effect
from registry.publishing.checkpoint_forms.whole_models import check_checkpoint
from registry.publishing.checks import base_files
from registry.states import ResultKind
from trainer.checkpoints import TRAINED
from trainer.data.probes import ProbePrompts, neutral_prompts
from trainer.errors import JobFailed
from trainer.order import ChildOrder
from trainer.progress import Noted, Report, StepWritten
from trainer.training.fingerprint import NEUTRAL_PROBES, record_fingerprint
from trainer.training.merging.merged_folder import merged_model
from trainer.training.objective import Objective
from trainer.training.steps.kept_steps import KeptSteps
from trainer.training.steps.written_forms import as_served, loaded_to_merge, write_normal
from trainer.training.weights import TRAINED as TRAINED_ADAPTER
from trainer.training.weights import has_base_as_stored, release, save_adapter
from trainer.training.whole_model import write_model

TRAINING_PROMPTS: Final = 4
"""Candidates for the fingerprint's probes from the training data."""
FEW_TRAINED: Final = 3
"""Candidates from the training data for the probes of an earlier step, which cost as much time as a result's."""
NEUTRAL_PROMPTS: Final = 7
"""Candidates for probes that belong to no data set."""
SPARED_BYTES: Final = 1 << 28
"""Bytes of the disk that an earlier step of a whole model leaves free for all else."""


def restore_step(model: PreTrainedModel | PeftModel, objective: Objective[Any], kept: KeptSteps, step: int) -> None:
    """Give everything that is trained the values that it had at *step*."""
    kept.restore(model, step)
    objective.load_result(kept.folder_of(step))


def write_while_training(  # noqa: PLR0913
    order: ChildOrder[FineTuneSpec],
    model: PeftModel,
    objective: Objective[Any],
    report: Report,
    kept: KeptSteps,
    step: int,
) -> None:
    """Write the folder of a step that the run has just kept, and report it; the run goes on as if it had not been."""
    with torch.random.fork_rng():
        is_written = _write(order, model, objective, report, step)
    restore_step(model, objective, kept, step)
    model.train()
    if is_written:
        report(StepWritten(step=step))


def may_be_written_while_training(spec: FineTuneSpec) -> bool:
    """Whether the steps that are kept are known beforehand, and one process has all that a folder needs."""
    is_chosen_late = spec.keep == "best" or spec.early_stopping_patience is not None
    return (
        spec.result_kind() is ResultKind.ADAPTER
        and spec.serve_checkpoints == "epochs"
        and not is_chosen_late
        and spec.process_count() == 1
        and has_base_as_stored(spec)
    )


def write_earlier_step(  # noqa: PLR0913
    order: ChildOrder[FineTuneSpec],
    model: PreTrainedModel | PeftModel,
    objective: Objective[Any],
    report: Report,
    kept: KeptSteps,
    step: int,
) -> bool:
    """Write an earlier step to its folder at the end of a run; return False if it cannot be published."""
    if (order.served_folder(step) / FINGERPRINT).exists():
        return True
    restore_step(model, objective, kept, step)
    return _write(order, model, objective, report, step)


def _write(
    order: ChildOrder[FineTuneSpec],
    model: PreTrainedModel | PeftModel,
    objective: Objective[Any],
    report: Report,
    step: int,
) -> bool:
    folder = order.served_folder(step)
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
        write_normal(order, model, folder)
        check_effect(folder)
        probed = as_served(order, model, folder, folder.name)
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
    write_normal(order, model, folder)
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
        merged = merged_model(loaded_to_merge(order))
        write_model(merged, order.base_path, folder)
        release(merged)
    check_checkpoint(folder, order.base_path)


STEP_WRITERS: Final[Mapping[ResultKind, Callable[[ChildOrder[Any], Any, Objective[Any], Path], None]]] = {
    ResultKind.ADAPTER: _write_adapter_step,
    ResultKind.CHECKPOINT: _write_whole_step,
    ResultKind.REWARD: _write_reward_step,
}
"""Kind of result -> the function that writes an earlier step of the same job, to which the model is set."""
