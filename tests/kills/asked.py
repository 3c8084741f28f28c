"""The jobs of the drill: every method and kind of result, small, with the file that each reads."""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from tests.engines.random_adapter import write_adapter
from tests.kills.phases import AIMED_AT, Phase
from tests.kills.stage import Stage

ROWS: Final = 12
SMALL: Final = {"n_epochs": 4, "batch_size": 4, "checkpoint_steps": 2, "learning_rate": 0.01, "lora_rank": 4}
"""12 steps and a checkpoint at every other one: most of a job is its start, and some end between two kills."""


class Kind(Protocol):
    """A kind of job that the drill asks for."""

    @property
    def name(self) -> str:
        """Its adapter, or first part of the name of its checkpoints: each kind has a name of its own."""
        ...

    @property
    def phases(self) -> frozenset[Phase]:
        """The phases that its jobs go through."""
        ...

    def ask(self, stage: Stage) -> str:
        """Ask the gateway for a job and return its id."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A fine-tuning job."""

    name: str
    method: str
    rows: Callable[[int], Mapping[str, Any]]
    """Number -> a row of the training file."""
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further fields below `method.<type>`."""
    validates: bool = False
    phases: frozenset[Phase] = frozenset(AIMED_AT) - {Phase.PROVING}

    def ask(self, stage: Stage) -> str:
        """Upload the file, then ask for the job."""
        file_id = stage.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": ("a.jsonl", self.lines())})
        return stage.post("/v1/fine_tuning/jobs", json=self.body(file_id))

    def lines(self) -> bytes:
        """Return the training file."""
        return "".join(json.dumps(self.rows(number)) + "\n" for number in range(ROWS)).encode()

    def body(self, file_id: str) -> dict[str, Any]:
        """Return the body of the request for a job."""
        given = {name: value for name, value in (SMALL | dict(self.hyperparameters)).items() if value is not None}
        return {
            "model": "tiny",
            "training_file": file_id,
            "validation_file": file_id if self.validates else None,
            "suffix": self.name,
            "seed": 7,
            "method": {"type": self.method, self.method: {"hyperparameters": given, **self.options}},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """The publication of an adapter that was trained elsewhere."""

    name: str
    phases: frozenset[Phase] = frozenset({Phase.PROVING, Phase.PUBLISHING})

    def ask(self, stage: Stage) -> str:
        """Send the folder."""
        with tempfile.TemporaryDirectory() as made, io.BytesIO() as written:
            folder = write_adapter(Path(made) / "adapter", stage.base, seed=1, rank=4, strength=0.3)
            with tarfile.open(fileobj=written, mode="w") as archive:
                archive.add(folder, ".")
            body = written.getvalue()
        return stage.post(f"/admin/adapters/{self.name}/revisions", params={"base": "tiny"}, content=body)


def chat(number: int) -> Mapping[str, Any]:
    """A chat, as `supervised` learns from."""
    asked = {"role": "user", "content": f"q{number}" * (number % 3 + 1)}
    return {"messages": [asked, {"role": "assistant", "content": f"answer {number}"}]}


def pair(number: int) -> Mapping[str, Any]:
    """Two answers, of which the first is preferred."""
    return {
        "input": {"messages": [{"role": "user", "content": f"q{number}"}]},
        "preferred_output": [{"role": "assistant", "content": f"answer {number}"}],
        "non_preferred_output": [{"role": "assistant", "content": f"ANSWER {number}"}],
    }


def rated(number: int) -> Mapping[str, Any]:
    """A chat with its label."""
    return {**chat(number), "label": number % 2 == 0}


def question(number: int) -> Mapping[str, Any]:
    """A prompt with what its grader reads."""
    return {"messages": [{"role": "user", "content": f"q{number}"}], "answer": f"answer {number}"}


SIMILAR: Final = {
    "type": "text_similarity",
    "name": "similar",
    "input": "{{sample.output_text}}",
    "reference": "{{item.answer}}",
    "evaluation_metric": "fuzzy_match",
}
LETTERS: Final = {
    "type": "python",
    "name": "letters",
    "source": "def grade(sample, item):\n    return sum(map(str.islower, sample['output_text'])) / 8\n",
}
_SAMPLING: Final = {"n_epochs": 2, "group_size": 4, "max_completion_tokens": 8}
_STOPS_EARLY: Final = {"keep": "best", "early_stopping_patience": 2, "learning_rate": 0.3, "n_epochs": 8}


def sampled(name: str, method: str, grader: Mapping[str, Any], **further: Any) -> Trained:
    """Return a kind that learns from the rewards of *grader*."""
    return Trained(
        name=name,
        method=method,
        rows=question,
        hyperparameters={**_SAMPLING, **further},
        options={"grader": grader},
    )


KINDS: Final[Sequence[Kind]] = (
    Trained(name="lora", method="supervised", rows=chat, hyperparameters={"lora_dropout": 0.1}),
    Trained(name="packed", method="supervised", rows=chat, hyperparameters={"packing": True}),
    Trained(name="stops", method="supervised", rows=chat, hyperparameters=_STOPS_EARLY, validates=True),
    Trained(name="full", method="supervised", rows=chat, hyperparameters={"weights": "full", "lora_rank": None}),
    Trained(name="merged", method="supervised", rows=chat, hyperparameters={"merge": True}),
    Trained(name="two", method="supervised", rows=chat, hyperparameters={"processes": 2}),
    Trained(name="dpo", method="dpo", rows=pair),
    Trained(name="kto", method="kto", rows=rated),
    Trained(name="orpo", method="orpo", rows=pair),
    Trained(name="simpo", method="simpo", rows=pair, validates=True),
    Trained(name="reward", method="reward", rows=pair),
    sampled("grpo", "reinforcement", SIMILAR, iterations=2, checkpoint_steps=3),
    sampled("rloo", "reinforcement", LETTERS, algorithm="rloo"),
    sampled("ppo", "ppo", SIMILAR),
    Brought(name="brought"),
)
