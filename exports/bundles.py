"""Assemble what is exported: a folder as it is, GGUF files, a folder for Ollama; each with its model card."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from exports.card import CardFacts, licence_of, model_card
from exports.checking.outcome import CheckOrder, check
from exports.errors import NotExportable
from exports.folder import check_files
from exports.gguf.adapter_file import write_adapter_gguf
from exports.gguf.model_file import GgufType, write_gguf
from exports.gguf.tokenizer import read_template
from exports.ollama import modelfile, ollama_chat

CARD: Final = "README.md"
FINGERPRINT: Final = "fingerprint.json"
"""Prompts of the training data with their answers: not part of an export unless asked for."""
GGUF_CHECKPOINT: Final = "model.gguf"
"""The file of a checkpoint that was quantized to GGUF."""
MODELFILE: Final = "Modelfile"
_TOKENS: Final = ("bos_token", "eos_token", "unk_token", "pad_token")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A model that was taken out of Lorry, and how to write it."""

    folder: Path
    """The files of the model, verified."""
    digests: Mapping[str, str]
    """File -> sha256."""
    base_folder: Path | None
    """The files of an adapter's base model; only its `config.json` where nothing is checked."""
    checks: bool
    """Whether what was written is read back."""
    with_fingerprint: bool
    facts: CardFacts

    @property
    def is_adapter(self) -> bool:
        """Whether it is an adapter."""
        return self.facts.kind == "adapter"


def write_folder(model: Exported, target: Path) -> list[str]:
    """Write the model as a Hugging Face or PEFT folder into the empty folder *target*; return what a check found."""
    left_out = set() if model.with_fingerprint else {FINGERPRINT}
    # A base model's own card is the work of whoever made it.
    keeps_card = model.facts.kind == "base" and CARD in model.digests
    left_out |= set() if keeps_card else {CARD}
    written = {name: digest for name, digest in model.digests.items() if name not in left_out}
    for name in written:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(model.folder / name, target / name)
    check_files(target, written)
    found = [_checked(model, target, "folder")] if model.checks and not is_quantized(model.folder) else []
    if not keeps_card:
        (target / CARD).write_text(model_card(replace(model.facts, checked=found)))
    return found


def is_quantized(folder: Path) -> bool:
    """Whether the weights in *folder* are quantized: in forms that need further libraries to be read back."""
    config = json.loads((folder / "config.json").read_bytes()) if (folder / "config.json").is_file() else {}
    return "quantization_config" in config or (folder / GGUF_CHECKPOINT).is_file()


def write_gguf_file(model: Exported, target: Path, kind: GgufType) -> list[str]:
    """Write the model as the new file *target*, an adapter as a LoRA of it; return what a check found."""
    title = model.facts.title
    if model.is_adapter:
        write_adapter_gguf(model.folder, _base_of(model), target, name=title)
        return []
    if (model.folder / GGUF_CHECKPOINT).is_file():
        shutil.copyfile(model.folder / GGUF_CHECKPOINT, target)
        return ["The checkpoint is a GGUF file already, which was copied as it is."]
    licence = licence_of(model.facts.lineage)
    write_gguf(model.folder, target, kind, name=title, about={} if licence is None else {"license": licence})
    if not model.checks:
        return []
    order = CheckOrder(kind="gguf", source=str(model.folder), target=str(target), form=kind)
    return [check(order).sentence(kind)]


def write_ollama(model: Exported, target: Path, kind: GgufType) -> list[str]:
    """Write GGUF files, a Modelfile and the card into the empty folder *target*; return remarks for people."""
    adapter = None
    whole = model
    if model.is_adapter:
        adapter = "adapter.gguf"
        write_gguf_file(model, target / adapter, "f32")
        base = _base_of(model)
        whole = replace(model, folder=base, facts=replace(model.facts, kind="base", title=f"{model.facts.title}-base"))
    remarks = write_gguf_file(whole, target / "model.gguf", kind)
    chat = ollama_chat(*_template_of(whole.folder))
    licence = licence_of(model.facts.lineage)
    (target / MODELFILE).write_text(modelfile("model.gguf", adapter, chat, licence))
    facts = replace(model.facts, form=kind, checked=remarks)
    (target / CARD).write_text(model_card(facts))
    if chat is None:
        remarks = [
            *remarks,
            "The chat template is of no family that is known here, so the Modelfile has no TEMPLATE: Ollama uses the "
            "template in the GGUF file where it knows that, and else writes bare prompts.",
        ]
    return remarks


def _checked(model: Exported, target: Path, form: str) -> str:
    if not model.is_adapter:
        order = CheckOrder(kind="model", source=str(model.folder), target=str(target), form=form)
        return check(order).sentence(form)
    fingerprint = model.folder / FINGERPRINT
    order = CheckOrder(
        kind="adapter",
        source=str(_base_of(model)),
        target=str(target),
        # The record is of another process, in another precision maybe, and rounded to six digits.
        form="adapter",
        fingerprint=str(fingerprint) if fingerprint.is_file() else None,
    )
    return check(order).sentence("folder")


def _base_of(model: Exported) -> Path:
    if model.base_folder is None:
        raise NotExportable("the base model's files are needed")
    return model.base_folder


def _template_of(folder: Path) -> tuple[str | None, dict[str, str]]:
    config: dict[str, Any] = json.loads((folder / "tokenizer_config.json").read_bytes())
    tokens = {}
    for field in _TOKENS:
        named = config.get(field)
        text = named.get("content") if isinstance(named, dict) else named
        if isinstance(text, str):
            tokens[field] = text
    return read_template(folder, config), tokens


def file_names(folder: Path) -> Sequence[str]:
    """Return the paths of the files in *folder*, sorted."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
