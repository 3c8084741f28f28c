"""Merge a revision's adapter into its base model."""

from __future__ import annotations

import shutil
from typing import Final

import torch

from registry.contracts.merge_spec import MergeSpec
from registry.jobs.job_phase import JobPhase
from trainer.order import ChildOrder
from trainer.progress import Noted, PhaseBegan, RecipeFinished, RecipeStopped, Report, StopAsked
from trainer.recipes import Recipe
from trainer.training.base_model import library_versions
from trainer.training.machine import machine_facts, peak_bytes
from trainer.training.merging.merged_folder import merge_folder


def merge(order: ChildOrder[MergeSpec], report: Report, stop_asked: StopAsked) -> RecipeFinished | RecipeStopped:
    """Write the merged model to the order's final folder, compared with base and adapter."""
    torch.set_num_threads(order.threads)
    report(PhaseBegan(phase=JobPhase.LOADING))
    if stop_asked():
        return RecipeStopped(step=0)
    report(PhaseBegan(phase=JobPhase.FINISHING))
    shutil.rmtree(order.final_folder, ignore_errors=True)
    compared = merge_folder(order.base_path, order.inputs["artifact"], order.final_folder)
    message = (
        f"Merged: the logprobs of {compared['tokens']} tokens differ from those of base and adapter by "
        f"{compared['logprob_rms']:.6f} nats, written as {compared['stored_as']}"
    )
    report(Noted(message=message, data=compared))
    return RecipeFinished(
        metrics={},
        trained_tokens=None,
        versions=library_versions(),
        machine=machine_facts(order.threads),
        peak_bytes=peak_bytes(order.spec.process_count()),
        provenance={"compared": compared},
    )


RECIPE: Final[Recipe] = merge
