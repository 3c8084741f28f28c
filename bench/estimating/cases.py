"""The jobs whose peaks and times are compared with their estimates. A job more is a case more."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
WORDS: Final = ("the", "kettle", "on", "the", "shelf", "sings", "a", "low", "note", "while", "rain", "falls", "past")
"""One token each with the bundled model's vocabulary."""
GRADER: Final = {
    "type": "string_check",
    "name": "right",
    "input": "{{sample.output_text}}",
    "reference": "{{item.answer}}",
    "operation": "ilike",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimatedJob:
    """A job on the bundled model, one epoch over its rows."""

    name: str
    method: str
    rows: Sequence[Mapping[str, Any]]
    hyperparameters: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)


def _example(name: str, count: int) -> list[Mapping[str, Any]]:
    lines = (EXAMPLES / f"{name}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in islice(cycle(lines), count)]


def _chats(count: int, length: int, learnt: int) -> list[Mapping[str, Any]]:
    """Return chats of about *length* tokens with what the template adds, of which *learnt* are the answer's."""
    return [
        {
            "messages": [
                {"role": "user", "content": _text(length - learnt - 32, at)},
                {"role": "assistant", "content": _text(learnt, at + 7)},
            ]
        }
        for at in range(count)
    ]


def _text(words: int, first: int) -> str:
    return " ".join(WORDS[(first + at) % len(WORDS)] for at in range(words))


def _supervised(name: str, rows: Sequence[Mapping[str, Any]], **hyperparameters: Any) -> EstimatedJob:
    return EstimatedJob(name=name, method="supervised", rows=rows, hyperparameters=hyperparameters)


CASES: Final[Sequence[EstimatedJob]] = (
    _supervised("LoRA 16, batch 4, short chats", _example("support", 16), batch_size=4),
    _supervised("LoRA 16, batch 1, 512 tokens", _chats(4, 512, 400), batch_size=1),
    _supervised("LoRA 64, batch 8, 256 tokens", _chats(16, 256, 200), batch_size=8, lora_rank=64),
    _supervised(
        "LoRA 8 of queries and values, batch 4, 256 tokens",
        _chats(12, 256, 100),
        batch_size=4,
        lora_rank=8,
        target_modules=["q_proj", "v_proj"],
    ),
    _supervised("LoRA 16 in bf16, batch 4, 256 tokens", _chats(12, 256, 100), batch_size=4, precision="bf16"),
    _supervised(
        "LoRA 16, checkpointed, batch 4, 512 tokens", _chats(8, 512, 200), batch_size=4, gradient_checkpointing=True
    ),
    _supervised("QLoRA 16, batch 4, 256 tokens", _chats(12, 256, 100), batch_size=4, weights="qlora"),
    _supervised("all weights, batch 4, short chats", _example("support", 16), batch_size=4, weights="full"),
    _supervised(
        "all weights with Adafactor, batch 2, 256 tokens",
        _chats(8, 256, 100),
        batch_size=2,
        weights="full",
        optimizer="adafactor",
    ),
    EstimatedJob(name="DPO, batch 4", method="dpo", rows=_example("pairs", 16), hyperparameters={"batch_size": 4}),
    EstimatedJob(name="KTO, batch 8", method="kto", rows=_example("ratings", 24), hyperparameters={"batch_size": 8}),
    EstimatedJob(
        name="ORPO, LoRA 32, batch 2",
        method="orpo",
        rows=_example("pairs", 10),
        hyperparameters={"batch_size": 2, "lora_rank": 32},
    ),
    EstimatedJob(
        name="GRPO, 8 outputs of 24 tokens, batch 2",
        method="reinforcement",
        rows=_example("questions", 6),
        hyperparameters={"batch_size": 2, "max_completion_tokens": 24, "n_epochs": 1},
        options={"grader": GRADER},
    ),
)
