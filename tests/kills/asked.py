"""The jobs of the drill: every method, small, with the file that it reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

ROWS: Final = 12
SMALL: Final = {"n_epochs": 10, "batch_size": 4, "checkpoint_steps": 5, "learning_rate": 0.01, "lora_rank": 4}
"""30 steps: long enough to be killed on the way, several times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A kind of job that the drill asks for."""

    name: str
    """Suffix of its jobs: each kind has an adapter of its own."""
    method: str
    rows: Callable[[int], Mapping[str, Any]]
    """Number -> a row of the training file."""
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further fields below `method.<type>`."""

    def lines(self) -> bytes:
        """Return the training file."""
        return "".join(json.dumps(self.rows(number)) + "\n" for number in range(ROWS)).encode()

    def body(self, file_id: str) -> dict[str, Any]:
        """Return the body of the request for a job."""
        settings = {"hyperparameters": SMALL | dict(self.hyperparameters), **self.options}
        return {
            "model": "tiny",
            "training_file": file_id,
            "suffix": self.name,
            "seed": 7,
            "method": {"type": self.method, self.method: settings},
        }


def _chat(number: int) -> Mapping[str, Any]:
    question = {"role": "user", "content": f"q{number}" * (number % 3 + 1)}
    return {"messages": [question, {"role": "assistant", "content": f"answer {number}"}]}


def _pair(number: int) -> Mapping[str, Any]:
    return {
        "input": {"messages": [{"role": "user", "content": f"q{number}"}]},
        "preferred_output": [{"role": "assistant", "content": f"answer {number}"}],
        "non_preferred_output": [{"role": "assistant", "content": f"ANSWER {number}"}],
    }


def _rated(number: int) -> Mapping[str, Any]:
    return {**_chat(number), "label": number % 2 == 0}


def _question(number: int) -> Mapping[str, Any]:
    return {"messages": [{"role": "user", "content": f"q{number}"}], "answer": f"answer {number}"}


_SIMILAR: Final = {
    "type": "text_similarity",
    "name": "similar",
    "input": "{{sample.output_text}}",
    "reference": "{{item.answer}}",
    "evaluation_metric": "fuzzy_match",
}
_SAMPLING: Final = {"n_epochs": 3, "group_size": 4, "max_completion_tokens": 8}

KINDS: Final[Sequence[Asked]] = (
    Asked(name="lora", method="supervised", rows=_chat),
    Asked(name="full", method="supervised", rows=_chat, hyperparameters={"weights": "full", "lora_rank": None}),
    Asked(name="merged", method="supervised", rows=_chat, hyperparameters={"merge": True}),
    Asked(name="two", method="supervised", rows=_chat, hyperparameters={"processes": 2}),
    Asked(name="dpo", method="dpo", rows=_pair),
    Asked(name="kto", method="kto", rows=_rated),
    Asked(name="orpo", method="orpo", rows=_pair),
    Asked(name="simpo", method="simpo", rows=_pair),
    Asked(name="reward", method="reward", rows=_pair),
    Asked(
        name="grpo",
        method="reinforcement",
        rows=_question,
        hyperparameters=_SAMPLING,
        options={"grader": _SIMILAR},
    ),
)
