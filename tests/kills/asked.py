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


KINDS: Final[Sequence[Asked]] = (
    Asked(name="lora", method="supervised", rows=_chat),
    Asked(name="full", method="supervised", rows=_chat, hyperparameters={"weights": "full", "lora_rank": None}),
    Asked(name="merged", method="supervised", rows=_chat, hyperparameters={"merge": True}),
    Asked(name="two", method="supervised", rows=_chat, hyperparameters={"processes": 2}),
)
