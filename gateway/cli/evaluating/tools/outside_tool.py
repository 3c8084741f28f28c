"""The face of an outside tool: how it is started, and what it found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

LONGEST_TEXT: Final = 16_384
"""Characters of a text that a gateway takes from a tool."""


class ToolFailed(Exception):
    """The tool's results are not whole; the message names what is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolTask:
    """The work for a tool."""

    served_name: str
    url: str
    """The address of the gateway, without a path."""
    tasks: Sequence[str]
    out: Path
    """Folder for its results."""
    limit: int | None = None
    concurrency: int = 4
    local: Path | None = None
    """Folder with tasks or data of this machine; None asks the tool's own hub."""
    tokenizer: Path | None = None
    """Folder of a tokenizer, with which log-likelihoods are asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """Everything that a tool found."""

    answers: Sequence[Mapping[str, Any]]
    """As `POST .../outside/answers` takes them."""
    metrics: Mapping[str, Mapping[str, Any]]
    """Task -> metric -> value, as the tool reports them, with standard errors where it does."""
    versions: Mapping[str, str] = field(default_factory=dict)


class OutsideTool(Protocol):
    """A tool with a command line."""

    def words(self, task: ToolTask) -> Sequence[str]:
        """Return the words after the interpreter. `ToolFailed` for a task that it cannot do."""
        ...

    def variables(self, key: str) -> Mapping[str, str]:
        """Return the variables of its environment that have the API *key*, which no list of processes shows."""
        ...

    def read(self, task: ToolTask) -> ToolResult:
        """Return what is in the task's folder. `ToolFailed` unless every row has its score."""
        ...


def answer_fields(*, task: str, row: str, prompt: str, answer: str, target: str, score: float) -> dict[str, Any]:
    """Return one answer; a score of at least a half passes."""
    return {
        "row_id": f"{task}/{row}"[:200],
        "prompt": prompt[:LONGEST_TEXT],
        "answer": answer[:LONGEST_TEXT],
        "target": target[:LONGEST_TEXT],
        "score": score,
        "passed": score >= 0.5,
        "tags": [task[:200]],
    }
