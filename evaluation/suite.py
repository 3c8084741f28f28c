"""A suite: rows of prompts, each with its checks, and how all of them are asked. Known by the digest of its content."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from typing import Annotated, Any, Final, Literal, Self

from pydantic import ConfigDict, Field, SerializeAsAny, ValidationError, field_validator, model_validator

from evaluation.checks.specs import CHECKS, CheckSpec, Text
from registry.wording.field_faults import fault_in, json_text, shortened
from registry.wording.known_fields import KnownFields
from registry.wording.suggestions import meant_or_known

MOST_ROWS: Final = 2000
MOST_BYTES: Final = 8 * 2**20
"""Bytes of a suite as canonical JSON."""
MOST_CHECKS: Final = 10
NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


class SuiteMessage(KnownFields):
    """A turn of the conversation that the model is to go on with."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, Field(max_length=100_000)]


class Sampling(KnownFields):
    """How every row is asked: greedy unless the suite asks otherwise."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    max_tokens: Annotated[int, Field(ge=1, le=8192)] = 512


class SuiteRow(KnownFields):
    """A prompt with its checks, all of which its answer has to pass."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Annotated[str, Field(min_length=1, max_length=100)] = ""
    """Filled with the row's number where it is not given."""
    prompt: Text | None = None
    messages: Annotated[list[SuiteMessage], Field(min_length=1, max_length=200)] | None = None
    check: SerializeAsAny[CheckSpec] | list[SerializeAsAny[CheckSpec]]
    weight: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    tags: Annotated[list[Annotated[str, Field(min_length=1, max_length=64)]], Field(max_length=20)] = Field(
        default_factory=list
    )
    max_tokens: Annotated[int, Field(ge=1, le=8192)] | None = None
    response_format: dict[str, Any] | None = None
    """Passed on with the request, for rows about output that engines enforce."""

    @field_validator("check", mode="before")
    @classmethod
    def _parse_checks(cls, given: Any) -> Any:
        if isinstance(given, list):
            if not 1 <= len(given) <= MOST_CHECKS:
                raise ValueError(f"must have 1 to {MOST_CHECKS} checks")
            return [_parsed(each) for each in given]
        return _parsed(given)

    @model_validator(mode="after")
    def _check_prompt(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("must have either prompt or messages")
        if self.messages is not None and self.messages[-1].role == "assistant":
            raise ValueError("messages: must not end with the assistant, whose answer is asked for")
        return self

    def conversation(self) -> list[dict[str, str]]:
        """Return the messages of the request."""
        if self.messages is None:
            return [{"role": "user", "content": str(self.prompt)}]
        return [message.model_dump() for message in self.messages]

    def checks(self) -> Sequence[CheckSpec]:
        """Return the checks as a list."""
        return self.check if isinstance(self.check, list) else [self.check]


class Suite(KnownFields):
    """Rows with a name; two suites with the same content have the same digest."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=NAME)]
    description: Annotated[str, Field(max_length=1000)] = ""
    sampling: Sampling = Sampling()
    rows: Annotated[list[SuiteRow], Field(min_length=1, max_length=MOST_ROWS)]

    @model_validator(mode="after")
    def _check_ids(self) -> Self:
        seen: set[str] = set()
        for row in self.numbered_rows:
            if row.id in seen:
                raise ValueError(f"rows: the id {shortened(row.id)} is there twice")
            seen.add(row.id)
        if len(self.canonical()) > MOST_BYTES:
            raise ValueError(f"has more than {MOST_BYTES // 2**20} MiB")
        return self

    @cached_property
    def numbered_rows(self) -> list[SuiteRow]:
        """The rows, those without an id with their number from 1."""
        return [row if row.id else row.model_copy(update={"id": str(at)}) for at, row in enumerate(self.rows, 1)]

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of all that decides the scores; name and description do not."""
        return sha256(json.dumps(self._deciding(), sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def canonical(self) -> str:
        """Return the suite as JSON, as it is stored."""
        return json.dumps({"name": self.name, "description": self.description, **self._deciding()}, sort_keys=True)

    def asked_models(self) -> frozenset[str]:
        """Return the names of all judges."""
        return frozenset(model for row in self.rows for check in row.checks() for model in check.asked_models())

    def limited(self, limit: int | None) -> Suite:
        """Return the suite of the first *limit* rows, which has a digest of its own; all rows for None."""
        if limit is None or limit >= len(self.rows):
            return self
        return self.model_copy(update={"rows": self.numbered_rows[:limit]}, deep=False).fresh()

    def fresh(self) -> Suite:
        """Return an equal suite whose cached values are computed anew."""
        return Suite(name=self.name, description=self.description, sampling=self.sampling, rows=self.rows)

    def _deciding(self) -> Mapping[str, Any]:
        rows = [row.model_dump(mode="json", exclude_none=True) for row in self.numbered_rows]
        return {"sampling": self.sampling.model_dump(mode="json"), "rows": rows}


def _parsed(given: Any) -> CheckSpec:
    if isinstance(given, CheckSpec):
        return given
    if not isinstance(given, dict):
        raise ValueError(f'must be an object such as {{"kind": "exact", "expect": "4"}}, not {json_text(given)}')
    kind = given.get("kind")
    if not isinstance(kind, str) or kind not in CHECKS:
        if kind is None:
            raise ValueError(f"is missing its field kind; there are {', '.join(CHECKS)}")
        raise ValueError(f"unknown kind {shortened(str(kind))}{meant_or_known(str(kind), CHECKS)}")
    try:
        return CHECKS[kind].model_validate(given)
    except ValidationError as exc:
        raise ValueError(f"{kind}: {fault_in(given, exc).sentence}") from exc
