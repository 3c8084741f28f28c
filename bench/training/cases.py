"""The jobs that are compared, and the bounds for ours beside its peers. A method more is a case more."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

CHATS: Final = Path(__file__).parents[2] / "examples" / "support.jsonl"
SYSTEM: Final = {"role": "system", "content": "You answer for a shop."}
"""In every row, because each trainer has a system prompt of its own where a chat has none."""
TARGETS: Final = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """The most that ours may take, in parts of what a peer takes."""

    peer: str
    wall: float
    processor: float
    memory: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingCase:
    """A job, as each of the trainers does it: an epoch over the rows, every step of one batch."""

    name: str
    method: str
    """Lorry's name of the method, which TRL's script knows too."""
    rows: Callable[[], Rows]
    """The training file, in Lorry's form."""
    batch_size: int
    micro_rows: int
    """Rows of a pass; Lorry finds the same number by itself."""
    learning_rate: float
    bounds: Sequence[Bound]
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    """Lorry's names of those that only this method has; TRL's script knows them too."""
    grader: Mapping[str, str] | None = None
    """The grader of a method that samples outputs."""

    def order(self, folder: Path, model: Path) -> Mapping[str, Any]:
        """Return what a program needs to do the job in *folder*; the rows are written there."""
        rows = self.rows()
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return {
            "method": self.method,
            "model": str(model),
            "rows": str(folder / "rows.jsonl"),
            "folder": str(folder),
            "steps": len(rows) // self.batch_size,
            "batch_size": self.batch_size,
            "micro_rows": self.micro_rows,
            "learning_rate": self.learning_rate,
            "rank": 16,
            "alpha": 32,
            "targets": TARGETS,
            "max_length": 1024,
            "seed": 7,
            "hyperparameters": self.hyperparameters,
            "grader": self.grader,
        }


def _chats(count: int) -> Rows:
    lines = CHATS.read_text().splitlines()[:count]
    return [{"messages": [SYSTEM, *json.loads(line)["messages"]]} for line in lines]


def _pairs(count: int) -> Rows:
    """Return chats with their own answer, preferred, and the answer of another chat."""
    chats = [chat["messages"] for chat in _chats(count)]
    return [
        {
            "input": {"messages": chat[:-1]},
            "preferred_output": chat[-1:],
            "non_preferred_output": chats[(at + 1) % count][-1:],
        }
        for at, chat in enumerate(chats)
    ]


def _rated(count: int) -> Rows:
    """Return one answer of each pair, in turn the preferred one and the other."""
    outputs = ("non_preferred_output", "preferred_output")
    return [
        {"messages": [*pair["input"]["messages"], *pair[outputs[at % 2]]], "label": at % 2 == 1}
        for at, pair in enumerate(_pairs(count))
    ]


def _questions(count: int) -> Rows:
    """Return chats without their answers, which are sampled."""
    return [{"messages": chat["messages"][:-1]} for chat in _chats(count)]


def _preference_case(method: str, rows: Callable[[int], Rows]) -> TrainingCase:
    return TrainingCase(
        name=f"{method}, 5 steps of 4 rows",
        method=method,
        rows=lambda: rows(20),
        batch_size=4,
        micro_rows=4,
        learning_rate=1e-4,
        bounds=[Bound(peer="trl", wall=1.0, processor=1.0, memory=1.0)],
    )


CASES: Final[Sequence[TrainingCase]] = (
    TrainingCase(
        name="supervised, 1 step of 10 chats",
        method="supervised",
        rows=lambda: _chats(10),
        batch_size=10,
        micro_rows=5,
        learning_rate=1e-3,
        bounds=[Bound(peer="ms-swift", wall=0.8, processor=0.8), Bound(peer="trl", wall=1.0, processor=1.0)],
    ),
    TrainingCase(
        name="supervised, 60 steps of 4 chats",
        method="supervised",
        rows=lambda: _chats(240),
        batch_size=4,
        micro_rows=4,
        learning_rate=1e-3,
        bounds=[Bound(peer="trl", wall=1.0, processor=1.0, memory=1.0)],
    ),
    _preference_case("dpo", _pairs),
    _preference_case("kto", _rated),
    _preference_case("reward", _pairs),
    TrainingCase(
        name="reinforcement (GRPO), 5 steps of 4 prompts with 8 outputs of up to 24 tokens",
        method="reinforcement",
        rows=lambda: _questions(20),
        batch_size=4,
        micro_rows=1,
        learning_rate=1e-4,
        bounds=[Bound(peer="trl", wall=1.0, processor=1.0, memory=1.0)],
        hyperparameters={"group_size": 8, "max_completion_tokens": 24, "beta": 0.04},
        grader={
            "type": "string_check",
            "name": "addressed",
            "input": "{{sample.output_text}}",
            "reference": "you",
            "operation": "ilike",
        },
    ),
)
