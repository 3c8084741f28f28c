"""Put an adapter into the weights of its base model, and compare what was written with what both gave together."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from registry.contracts.fingerprint import FINGERPRINT, FingerprintFile
from trainer.errors import JobFailed
from trainer.training.base_model import load_base
from trainer.training.weights import load_stored, release
from trainer.training.whole_model import STORED_TYPES, check_savable, stored_types, write_model

TOLERANCES: Final = {torch.float32: 0.001, torch.float16: 0.02, torch.bfloat16: 0.15}
"""Type of the written weights -> the largest root mean square, in nats, of the difference of the probes' logprobs.

Merged weights are rounded to the base's type. Measured on the bundled model (bfloat16): docs/checkpoints/exports.md.
"""
_PROMPT_IDS: Final = 32
_DIGITS: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answers:
    """The logprobs of every token of the vocabulary at each token of a probe's answer: [tokens, vocabulary]."""

    probes: list[Tensor]


def merged_model(model: PeftModel) -> PreTrainedModel:
    """Return the base model with the adapter in its weights; *model* is of no use any more. Raises `JobFailed`."""
    try:
        return model.merge_and_unload(safe_merge=True)
    except ValueError as exc:  # weights that are not finite, though the loss was
        raise JobFailed("publish_failed", f"the adapter cannot be merged: {exc}") from exc


def merge_folder(base_folder: Path, adapter_folder: Path, target: Path) -> dict[str, Any]:
    """Write the base model with a normalised adapter in its weights to the new folder *target*.

    The sum is computed in float32 and rounded to the types of the base's tensors. Return what a comparison with base
    and adapter gave, for the provenance. `JobFailed` for a quantized base, or if they differ by more than rounding.
    """
    check_savable(base_folder)
    model = load_stored(load_base(base_folder, dtype=torch.float32), adapter_folder).eval()
    probes = _probes(adapter_folder, model)
    before = _answers(model, probes)
    merged = merged_model(model)
    write_model(merged, base_folder, target)
    release(merged)
    written = load_base(target, dtype=torch.float32).eval()
    after = _answers(written, probes)
    release(written)
    return _compared(before, after, _coarsest(base_folder))


def _probes(adapter_folder: Path, model: PeftModel) -> list[tuple[list[int], list[int]]]:
    """Return prompt and answer of each probe of text in the adapter's fingerprint, as tokens."""
    path = adapter_folder / FINGERPRINT
    if path.is_file():
        stored = FingerprintFile.model_validate(json.loads(path.read_bytes())).probes
        texts = [probe for probe in stored if all(isinstance(each["content"], str) for each in probe.messages)]
        if texts:
            return [(probe.prompt_ids, [token.id for token in probe.tokens]) for probe in texts]
    # Any tokens show whether both compute the same.
    ids = list(range(min(_PROMPT_IDS, model.get_base_model().get_input_embeddings().num_embeddings)))
    return [(ids[: len(ids) // 2], ids[len(ids) // 2 :])]


@torch.inference_mode()
def _answers(model: torch.nn.Module, probes: list[tuple[list[int], list[int]]]) -> _Answers:
    found = []
    for prompt, answer in probes:
        ids = torch.tensor([[*prompt, *answer]])
        # Logits belong to the next token.
        logits = model(input_ids=ids).logits[0, len(prompt) - 1 : -1]
        if not bool(logits.isfinite().all()):
            raise JobFailed("publish_failed", "the logits of base and adapter, or of the merged model, are not finite")
        found.append(logits.float().log_softmax(-1))
    return _Answers(probes=found)


def _compared(before: _Answers, after: _Answers, stored: torch.dtype) -> dict[str, Any]:
    """Return the differences of the answers, as JSON; `JobFailed` if they are larger than rounding explains."""
    squares, largest, same, tokens = 0.0, 0.0, 0, 0
    for one, other in zip(before.probes, after.probes, strict=True):
        best = one.argmax(-1, keepdim=True)
        differences = (one.gather(-1, best) - other.gather(-1, best)).double()
        squares += float((differences**2).sum())
        largest = max(largest, float(differences.abs().max()))
        same += int((best[:, 0] == other.argmax(-1)).sum())
        tokens += len(best)
    mean = (squares / tokens) ** 0.5
    tolerance = TOLERANCES[stored]
    if mean > tolerance:
        raise JobFailed(
            "publish_failed",
            f"the merged model answers otherwise than base and adapter: the logprobs of {tokens} tokens differ by "
            f"{mean:.4f} nats (root mean square), more than {tolerance} of rounding",
        )
    return {
        "probes": len(before.probes),
        "tokens": tokens,
        "same_best_tokens": same,
        "logprob_rms": round(mean, _DIGITS),
        "logprob_max": round(largest, _DIGITS),
        "tolerance": tolerance,
        "stored_as": str(stored).removeprefix("torch."),
    }


def _coarsest(base_folder: Path) -> torch.dtype:
    """Return the type of the base's tensors that rounds most."""
    found = {STORED_TYPES[dtype] for dtype in stored_types(base_folder)}
    return max(found, key=lambda dtype: torch.finfo(dtype).eps)
