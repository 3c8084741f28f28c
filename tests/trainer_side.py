"""The trainer's side of a fingerprint, in this process: the base model, and what PEFT computes on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from peft import PeftModel

from registry.contracts.fingerprint import write_fingerprint
from trainer.data.dataset import ChatEncoder
from trainer.data.probes import ProbePrompts, neutral_prompts
from trainer.training.base_model import load_base
from trainer.training.fingerprint import record_fingerprint

DIGEST = "0" * 64
PROMPTS = 4


class TrainerSide:
    """A base model as the trainer has it, and fingerprints made with it."""

    def __init__(self, model_folder: Path) -> None:
        self.folder = model_folder
        self._encoder = ChatEncoder(model_folder)
        self._base = load_base(model_folder)

    def record(self, adapter: Path, target: Path, encoder: ChatEncoder | None = None) -> None:
        """Write the fingerprint of *adapter*, as PEFT computes it, to *target*; `JobFailed` if none can be made."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        model = PeftModel.from_pretrained(self._base, adapter)
        prompts = ProbePrompts(trained=(), neutral=neutral_prompts(PROMPTS))
        try:
            write_fingerprint(record_fingerprint(model, encoder or self._encoder, prompts, DIGEST), target)
        finally:
            self._base = model.unload()
            torch.set_num_threads(threads)

    @contextmanager
    def other_base(self, *parts: str) -> Iterator[None]:
        """Inside, the base is another one: the weights with one of *parts* in their names are changed by a fifth."""
        source = torch.Generator().manual_seed(0)
        kept = {
            name: weight.detach().clone()
            for name, weight in self._base.named_parameters()
            if any(part in name for part in parts)
        }
        with torch.no_grad():
            for name, weight in kept.items():
                noise = 1 + 0.2 * torch.randn(weight.shape, generator=source)
                self._base.get_parameter(name).copy_(weight * noise)
            yield
            for name, weight in kept.items():
                self._base.get_parameter(name).copy_(weight)


def encoder_with(model: Path, folder: Path, old: str, new: str) -> ChatEncoder:
    """The encoder of a model whose chat template has *new* where this one's has *old*; *folder* is a new one."""
    folder.mkdir()
    for path in model.iterdir():
        if path.suffix in (".json", ".jinja"):
            (folder / path.name).write_text(path.read_text().replace(old, new))
    return ChatEncoder(folder)
