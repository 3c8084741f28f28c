"""`python -m exports.checking ORDER`: load an export and its source, compare their logprobs, print what was found."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig, PreTrainedModel

from exports.checking.outcome import CheckOrder, Outcome

TEXTS: Final = (
    "The quick brown fox jumps over the lazy dog. 3 33 333",
    "def add(a, b):\n    return a + b\n",
    "你好。今天天气怎么样",
)
_LONGEST: Final = 48
_AS_LLAMA: Final = ("mistral",)
"""Kinds whose GGUF files transformers reads under the name of another kind, which computes the same."""


def main() -> None:
    """Print the outcome of the order as the last line."""
    order = CheckOrder(**json.loads(sys.argv[1]))
    outcome = CHECKS[order.kind](order)
    sys.stdout.write(json.dumps(asdict(outcome)) + "\n")


def _check_model(order: CheckOrder) -> Outcome:
    ids = _prompts(Path(order.source))
    source, target = (_logprobs(_load(Path(path)), ids) for path in (order.source, order.target))
    return _outcome(source, target)


def _check_gguf(order: CheckOrder) -> Outcome:
    ids, folder, file = _prompts(Path(order.source)), Path(order.source), Path(order.target)
    source = _logprobs(_load(folder), ids)
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    if config.model_type in _AS_LLAMA:
        fields = {
            name: value for name, value in config.to_dict().items() if name not in ("model_type", "architectures")
        }
        config = AutoConfig.for_model("llama", **fields)
    model = AutoModelForCausalLM.from_pretrained(
        file.parent,
        gguf_file=file.name,
        config=config,
        dtype=torch.float32,
        quantization_config=GgufConfig(gguf_file=file.name, dequantize=True),
    )
    return _outcome(source, _logprobs(model.eval(), ids))


def _check_adapter(order: CheckOrder) -> Outcome:
    """Compare with the fingerprint that the trainer recorded: [tokens] of each probe."""
    model = PeftModel.from_pretrained(_load(Path(order.source)), order.target).eval()
    if order.fingerprint is None:
        raise SystemExit("the adapter has no fingerprint to compare with")
    squares, largest, same, tokens = 0.0, 0.0, 0, 0
    for probe in json.loads(Path(order.fingerprint).read_bytes())["probes"]:
        if not all(isinstance(message["content"], str) for message in probe["messages"]):
            continue
        answer = [token["id"] for token in probe["tokens"]]
        ids = [*probe["prompt_ids"], *answer]
        logprobs = _logprobs(model, [ids])[0][len(probe["prompt_ids"]) - 1 : -1]
        found = logprobs.gather(-1, torch.tensor(answer)[:, None])[:, 0]
        differences = (found - torch.tensor([token["logprob"] for token in probe["tokens"]])).double()
        squares, tokens = squares + float((differences**2).sum()), tokens + len(answer)
        largest = max(largest, float(differences.abs().max()))
        same += int((logprobs.argmax(-1) == torch.tensor(answer)).sum())
    return Outcome(tokens=tokens, same_best_tokens=same, rms=(squares / max(1, tokens)) ** 0.5, largest=largest)


CHECKS: Final = {"model": _check_model, "gguf": _check_gguf, "adapter": _check_adapter}
"""Kind of export -> the function that compares it."""


def _load(folder: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()


def _prompts(folder: Path) -> list[list[int]]:
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return [tokenizer(text).input_ids[:_LONGEST] for text in TEXTS]


@torch.inference_mode()
def _logprobs(model: Any, prompts: list[list[int]]) -> list[Tensor]:
    """Return the logprobs of every token of the vocabulary after each token of each prompt: [tokens, vocabulary]."""
    return [model(input_ids=torch.tensor([ids])).logits[0].float().log_softmax(-1) for ids in prompts]


def _outcome(source: list[Tensor], target: list[Tensor]) -> Outcome:
    one, other = torch.cat(source), torch.cat(target)
    best = one.argmax(-1, keepdim=True)
    differences = (one.gather(-1, best) - other.gather(-1, best)).double()
    return Outcome(
        tokens=len(best),
        same_best_tokens=int((best[:, 0] == other.argmax(-1)).sum()),
        rms=float((differences**2).mean().sqrt()),
        largest=float(differences.abs().max()),
    )


if __name__ == "__main__":
    main()
