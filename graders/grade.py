"""The input and the answer of a grader."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from graders.errors import Fault

Message = Mapping[str, Any]
"""A chat message, `{"role": ..., "content": ...}`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """An output of a model, and the item that it was made for."""

    output_text: str
    item: Mapping[str, Any]
    messages: Sequence[Message] = ()
    """The prompt of the output; a reward model reads prompt and output."""

    def namespaces(self) -> Mapping[str, Any]:
        """Return the values of templates, and the arguments of a Python grader."""
        sample: dict[str, Any] = {
            "output_text": self.output_text,
            "output_tools": [],
            "choices": [{"message": {"role": "assistant", "content": self.output_text}}],
        }
        # A template that names `output_json` has no value where the output is not JSON.
        with contextlib.suppress(ValueError, RecursionError):
            sample["output_json"] = json.loads(self.output_text)
        return {"sample": sample, "item": self.item}


@dataclass(frozen=True, slots=True, kw_only=True)
class Grade:
    """The reward of a sample, or the reason why it is 0."""

    reward: float
    sub_rewards: Mapping[str, float] = field(default_factory=dict)
    """The rewards of the parts of a multi grader."""
    faults: Mapping[Fault, str] = field(default_factory=dict)
    """Reason -> details; empty for a grade."""
    tokens: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Model that graded -> its usage."""
    seconds: float = 0.0

    @property
    def is_graders_fault(self) -> bool:
        """Return whether the grader, and not the sample, is to blame for the missing grade."""
        return any(fault is not Fault.SAMPLE for fault in self.faults)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelAnswer:
    """The answer of a model to the chat of a grader."""

    text: str
    usage: Mapping[str, int]


class Models(Protocol):
    """The models of this Lorry, as graders ask them."""

    def answer(self, body: Mapping[str, Any]) -> ModelAnswer:
        """Return the answer to the chat completion *body*; `GradingFailed` if there is none."""
        ...


class RewardModels(Protocol):
    """The reward models of this Lorry."""

    def score(self, model: str, chats: Sequence[Sequence[Message]]) -> Sequence[float]:
        """Return the score of each chat, prompt and output together; `GradingFailed` if *model* cannot be had."""
        ...
