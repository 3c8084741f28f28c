"""Graders that ask a model: one that chats, or one with a reward head."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from registry.contracts.graders.grader_spec import GraderSpec, Name, Template
from registry.wording.known_fields import KnownFields

MOST_MESSAGES: Final = 50


class MessagePart(KnownFields):
    """A part of the content of a message: text."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["input_text", "output_text"]
    text: Template


class GraderMessage(KnownFields):
    """A message to the model that grades."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Literal["user", "assistant", "system", "developer"]
    content: Template | list[MessagePart]
    type: Literal["message"] | None = None

    @field_validator("content", mode="before")
    @classmethod
    def _as_parts(cls, content: Any) -> Any:
        if isinstance(content, str):
            return content
        parts = [
            {"type": "input_text", "text": part} if isinstance(part, str) else part
            for part in (content if isinstance(content, list) else [content])
        ]
        for at, part in enumerate(parts):
            kind = part.get("type") if isinstance(part, dict) else None
            if kind not in ("input_text", "output_text"):
                raise ValueError(f"part {at} must have the type input_text or output_text: graders here read text only")
        return parts

    def text(self) -> str:
        """Return the content as one template."""
        return self.content if isinstance(self.content, str) else "\n".join(part.text for part in self.content)


class SamplingParams(KnownFields):
    """How the model that grades samples its answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_completions_tokens: Annotated[int, Field(ge=1, le=32768)] | None = None
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    reasoning_effort: str | None = None

    @field_validator("reasoning_effort")
    @classmethod
    def _check_effort(cls, effort: str | None) -> str | None:
        if effort is not None:
            raise ValueError("no engine here has levels of reasoning; leave reasoning_effort out")
        return effort


Messages = Annotated[list[GraderMessage], Field(min_length=1, max_length=MOST_MESSAGES)]


class _ModelGrader(GraderSpec):
    """A grader that sends a chat to a model of this Lorry."""

    model: Annotated[str, Field(min_length=1, max_length=256)]
    input: Messages

    def templates(self) -> Mapping[str, str]:
        """Return the contents of the messages."""
        return {f"input.{at}.content": message.text() for at, message in enumerate(self.input)}

    def asked_models(self) -> frozenset[str]:
        """Return the model."""
        return frozenset({self.model})


class ScoreModelGrader(_ModelGrader):
    """The number that a model gives, within `range`."""

    type: Literal["score_model"] = "score_model"
    range: tuple[float, float] = (0.0, 1.0)
    sampling_params: SamplingParams | None = None

    @field_validator("range")
    @classmethod
    def _check_range(cls, bounds: tuple[float, float]) -> tuple[float, float]:
        if not -1e9 <= bounds[0] < bounds[1] <= 1e9:
            raise ValueError("must be two numbers within a billion of 0, the smaller one first")
        return bounds


PINNED: Final = re.compile(r"[^@]+@(?:[0-9]{1,9}|[0-9a-f]{8}-step-[0-9]{1,9})|ft:.+:ckpt-step-[0-9]{1,9}")
"""Names of reward models whose weights never change: a revision, or a step of a job by either of its names."""


class LabelModelGrader(_ModelGrader):
    """1 if the label that a model chooses is among `passing_labels`, else 0."""

    type: Literal["label_model"] = "label_model"
    labels: Annotated[list[Name], Field(min_length=1, max_length=100)]
    passing_labels: Annotated[list[Name], Field(min_length=1, max_length=100)]

    @model_validator(mode="after")
    def _check_labels(self) -> Self:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("labels: a label stands there twice")
        if unknown := sorted(set(self.passing_labels) - set(self.labels)):
            raise ValueError(f"passing_labels: {unknown[0]!r} is not one of labels, {', '.join(self.labels)}")
        return self


class RewardModelGrader(GraderSpec):
    """The score that a reward model trained here gives to the whole chat. An extension of Lorry's."""

    type: Literal["reward_model"] = "reward_model"
    name: Name = "reward"
    model: Annotated[str, Field(min_length=1, max_length=256)]
    """`NAME@REVISION` of a revision that a job of the method `reward` has published, or the name of a step of it."""

    @field_validator("model")
    @classmethod
    def _check_model(cls, model: str) -> str:
        if PINNED.fullmatch(model) is None:
            raise ValueError(
                "must name a revision, as helpful@3, or a step of a job, as ft:...:ckpt-step-88, so that the same spec "
                "trains the same weights"
            )
        return model

    def reward_models(self) -> frozenset[str]:
        """Return the model."""
        return frozenset({self.model})
