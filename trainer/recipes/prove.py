"""Make the fingerprint of an adapter that was trained elsewhere."""

from __future__ import annotations

import shutil
from typing import Final

import torch

from registry.contracts.publish_spec import PublishSpec
from registry.jobs.job_phase import JobPhase
from trainer.data.pictures import chat_encoder
from trainer.order import ChildOrder
from trainer.progress import Noted, PhaseBegan, RecipeFinished, RecipeStopped, Report, StopAsked
from trainer.recipes import Recipe
from trainer.training.base_model import library_versions, load_base
from trainer.training.finish import fingerprint_adapter
from trainer.training.machine import machine_facts
from trainer.training.weights import load_stored


def prove(order: ChildOrder[PublishSpec], report: Report, stop_asked: StopAsked) -> RecipeFinished | RecipeStopped:
    """Copy the uploaded adapter to the order's final folder and add its fingerprint."""
    torch.set_num_threads(order.threads)
    encoder = chat_encoder(order.base_path, order.pictures.sources())
    report(PhaseBegan(phase=JobPhase.LOADING))
    base = load_base(order.base_path)
    report(Noted(message="Base model loaded"))
    if stop_asked():
        return RecipeStopped(step=0)
    report(PhaseBegan(phase=JobPhase.FINISHING))
    # `copyfile` leaves out the mode: files in the store are read-only.
    shutil.copytree(order.inputs["artifact"], order.final_folder, copy_function=shutil.copyfile, dirs_exist_ok=True)
    probes = fingerprint_adapter(order, load_stored(base, order.final_folder), encoder, [], report)
    report(Noted(message=f"Fingerprint of {probes} probes made"))
    return RecipeFinished(
        metrics={}, trained_tokens=None, versions=library_versions(), machine=machine_facts(order.threads)
    )


RECIPE: Final[Recipe] = prove
