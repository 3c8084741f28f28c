"""Make the fingerprint of an adapter that was trained elsewhere."""

from __future__ import annotations

import shutil
from typing import Final

import torch
from peft import PeftModel

from registry.contracts.fingerprint import write_fingerprint
from trainer.data.dataset import ChatEncoder
from trainer.data.probes import ProbePrompts, neutral_prompts
from trainer.order import PublishOrder
from trainer.progress import Finished, Noted, Stopped
from trainer.recipes import Report, StopAsked
from trainer.recipes.base_model import library_versions, load_base
from trainer.recipes.fingerprint import record_fingerprint

PROMPTS: Final = 7


def prove(order: PublishOrder, report: Report, stop_asked: StopAsked) -> Finished | Stopped:
    """The order's folder with a fingerprint is in its final folder."""
    torch.set_num_threads(order.threads)
    encoder = ChatEncoder(order.base_path)
    base = load_base(order.base_path)
    report(Noted(message="Base model loaded"))
    if stop_asked():
        return Stopped(step=0)
    shutil.copytree(order.adapter_path, order.final_folder, copy_function=shutil.copyfile, dirs_exist_ok=True)
    model = PeftModel.from_pretrained(base, order.final_folder)
    prompts = ProbePrompts(trained=(), neutral=neutral_prompts(PROMPTS))
    fingerprint = record_fingerprint(model, encoder, prompts, order.spec.base_digest)
    write_fingerprint(fingerprint, order.final_folder)
    report(Noted(message=f"Fingerprint of {len(fingerprint.probes)} probes made"))
    return Finished(metrics={}, trained_tokens=0, versions=library_versions())
