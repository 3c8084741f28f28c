"""The end of every recipe that trains an adapter: normalise it, fingerprint it, describe the outcome."""

from __future__ import annotations

import shutil
import time
from typing import Final

from peft import PeftModel
from transformers import TrainerState

from registry.contracts.fingerprint import write_fingerprint
from registry.contracts.job_spec import JobSpec
from registry.errors import AdapterRejected
from registry.publishing.normalize import normalize_adapter
from trainer.checkpoints import find_last_whole
from trainer.data.dataset import ChatEncoder
from trainer.data.probes import Messages, ProbePrompts, neutral_prompts
from trainer.errors import JobFailed
from trainer.order import ChildOrder, spec_identity
from trainer.progress import Noted, RecipeFinished, RecipeStopped, Report
from trainer.training.base_model import library_versions
from trainer.training.fingerprint import record_fingerprint
from trainer.training.machine import machine_facts

PUBLISHED: Final = "published"
"""Name of the normalised adapter in the model, beside the one that was trained."""
NEUTRAL_PROMPTS: Final = 7
"""Candidates for probes that belong to no data set."""


def finish_adapter(
    order: ChildOrder[JobSpec], model: PeftModel, encoder: ChatEncoder, trained: list[Messages], report: Report
) -> None:
    """Write the trained adapter to the order's final folder, as every engine reads it, with its fingerprint.

    *trained* are candidates for probes from the training data.
    """
    began = time.monotonic()
    folder = order.attempt_folder / "trained"
    # Left to itself, PEFT may save embeddings too, which `normalize_adapter` would compare with the base's for nothing.
    model.save_pretrained(folder, save_embedding_layers=False)
    shutil.rmtree(order.final_folder, ignore_errors=True)
    try:
        normalize_adapter(folder, order.final_folder, order.spec.base, order.base_path)
    except AdapterRejected as exc:  # weights that are not finite, though the loss was
        raise JobFailed("publish_failed", f"the trained adapter cannot be published: {exc}") from exc
    # The fingerprint is made of the normalised adapter, read back from disk: replicas load those bytes.
    model.load_adapter(str(order.final_folder), PUBLISHED)
    model.set_adapter(PUBLISHED)
    probes = fingerprint_adapter(order, model, encoder, trained, report)
    shutil.rmtree(folder, ignore_errors=True)
    took = time.monotonic() - began
    report(Noted(message=f"Fingerprint of {probes} probes made", data={"seconds": round(took, 2)}))


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


def outcome_of(order: ChildOrder[JobSpec], state: TrainerState) -> RecipeFinished | RecipeStopped:
    """Return how a run of transformers' Trainer ended, with the metrics of its last checkpoint."""
    if state.global_step < state.max_steps:
        return RecipeStopped(step=state.global_step)
    last = find_last_whole(order.job_folder, spec_identity(order.spec))
    return RecipeFinished(
        metrics=dict(last.metrics) if last is not None else {},
        trained_tokens=int(state.num_input_tokens_seen),
        versions=library_versions(),
        machine=machine_facts(order.threads),
    )
