"""The run of a fine-tuning job of any method, from its files to the result in the order's final folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel, PrinterCallback, TrainerState

from registry.contracts.fine_tune_spec import FineTuneSpec
from registry.jobs.job_phase import JobPhase
from trainer.checkpoints import find_last_whole
from trainer.data.dataset import count_ignored
from trainer.errors import JobFailed
from trainer.order import ChildOrder, spec_identity
from trainer.progress import Noted, PhaseBegan, RecipeFinished, RecipeStopped, Report, RowsRead, StopAsked
from trainer.training.arguments import training_arguments
from trainer.training.beside.resident_base import SharedProcess
from trainer.training.finish import finish, outcome_of
from trainer.training.loop import TrainingLoop
from trainer.training.objective import Objective
from trainer.training.pictures_checked import check_unchanged
from trainer.training.reporting import RunReporter
from trainer.training.steps.kept_steps import FinalSteps
from trainer.training.together.processes import join_processes
from trainer.training.together.sharing import shared_rows, whole_again
from trainer.training.weights import trained_model


def run_training(
    order: ChildOrder[FineTuneSpec],
    objective: Objective[Any],
    report: Report,
    stop_asked: StopAsked,
    shared: SharedProcess | None = None,
) -> RecipeFinished | RecipeStopped:
    """Train the weights of *order* into its final folder, from the last complete checkpoint if there is one.

    *shared* is what the run shares with other jobs; without it the run loads a base model of its own.
    """
    torch.set_num_threads(order.threads)
    check_unchanged(order)
    processes = objective.processes = join_processes(order.spec.parallel, order.attempt_folder)
    report, stop_asked = processes.reports(report), processes.agreed(stop_asked)
    rows, valid = _read_files(order, objective, report)
    if stop_asked():
        processes.leave()
        return RecipeStopped(step=0)
    model = _prepared_model(order, objective, report, [*rows, *valid], shared)
    start = find_last_whole(order.job_folder, spec_identity(order.spec))
    reporter = RunReporter(order, report, stop_asked, objective, processes)
    if start is not None:
        reporter.continue_from(start)
    reporter.validate_on(valid)
    arguments = training_arguments(order, len(rows))
    loop = TrainingLoop(
        model=model,
        args=arguments,
        **shared_rows(rows, objective, processes, arguments.per_device_train_batch_size, order.spec.repeats()),
        callbacks=[reporter],
        objective=objective,
        spec=order.spec,
        processes=processes,
    )
    # The reporter has every step already, and the end of the child's log is kept for what explains a crash.
    loop.remove_callback(PrinterCallback)
    report(PhaseBegan(phase=JobPhase.TRAINING))
    if start is not None and reporter.kept.choice.is_over:
        loop.state = TrainerState.load_from_json(str(start.folder / "trainer_state.json"))
    else:
        loop.train(resume_from_checkpoint=None if start is None else str(start.folder))
    # A run that was asked to stop during its last step is finished as well.
    if loop.state.global_step < loop.state.max_steps and not reporter.kept.choice.is_over:
        processes.leave()
        return RecipeStopped(step=loop.state.global_step)
    report(PhaseBegan(phase=JobPhase.FINISHING))
    last = int(loop.state.global_step)
    steps = FinalSteps(reporter.kept, reporter.kept.choice.result_step(order.spec, last), last)
    model = whole_again(order, model, objective)
    processes.leave()
    # What the other processes return is read by nobody.
    if not processes.is_first:
        return outcome_of(order, loop.state, steps.result, ())
    served = finish(order, model, objective, report, steps)
    # Pictures are read whenever a batch has them, so a change on the way may be in the result.
    check_unchanged(order)
    return outcome_of(order, loop.state, steps.result, served)


def _prepared_model(
    order: ChildOrder[FineTuneSpec],
    objective: Objective[Any],
    report: Report,
    rows: Sequence[Any],
    shared: SharedProcess | None,
) -> PreTrainedModel | PeftModel:
    """Return the model with what *objective* needs of it before the first step."""
    report(PhaseBegan(phase=JobPhase.LOADING))
    if shared is not None:
        objective.aside = shared.aside
    model = trained_model(order, None if shared is None else shared.base)
    report(PhaseBegan(phase=JobPhase.PREPARING))
    objective.attach(model)
    objective.prepare(model, rows)
    return model


def _read_files(
    order: ChildOrder[FineTuneSpec], objective: Objective[Any], report: Report
) -> tuple[Sequence[Any], Sequence[Any]]:
    """Return the rows of the training file and those of the validation file; report what is not trained on."""
    report(PhaseBegan(phase=JobPhase.ENCODING))
    rows = _fitting_rows(order, objective, report, "training_file")
    if left_out := count_ignored(order.inputs["training_file"], objective.formats):
        listed = ", ".join(f"{field} of {count} messages" for field, count in left_out.items())
        report(Noted(message=f"Not trained on: {listed}", level="warn", data=dict(left_out)))
    return rows, _fitting_rows(order, objective, report, "validation_file") if "validation_file" in order.inputs else ()


def _fitting_rows(
    order: ChildOrder[FineTuneSpec], objective: Objective[Any], report: Report, field: str
) -> Sequence[Any]:
    """Return the rows of a file that fit, and report the others; `JobFailed` if these are more than the job allows."""
    rows = objective.read_rows(order.inputs[field], field)
    unfit = objective.unfit_rows(field)
    if unfit.reasons:
        report(RowsRead(field=field, unfit=unfit))
    if unfit.exceeds(order.spec.most_unfit_rows):
        reasons = {reason.reason for reason in unfit.reasons}
        code = reasons.pop() if len(reasons) == 1 else "unfit_rows"
        raise JobFailed(code, unfit.refusal(field, order.spec.most_unfit_rows, order.spec.unfit_choices), field)
    return rows
