"""The checks that a row of a suite may ask for, as people write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from evaluation.checks.patterns import compile_pattern
from evaluation.checks.schemas import schema_fault
from registry.contracts.graders.grader_kinds import parse_grader
from registry.contracts.graders.grader_spec import GraderSpec
from registry.errors import GraderInvalid
from registry.wording.known_fields import KnownFields

LONGEST_TEXT: Final = 100_000
Text = Annotated[str, Field(min_length=1, max_length=LONGEST_TEXT)]
Texts = Annotated[list[Text], Field(min_length=1, max_length=100)]
Share = Annotated[float, Field(ge=0, le=1)]
ModelName = Annotated[str, Field(min_length=1, max_length=256)]

NORMALISATIONS: Final = {
    "text": "NFKC, case folded, runs of white space as one space, without white space and .!?,;: at both ends",
    "space": "without white space at both ends",
    "none": "compared as they are",
}
"""`normalize` of an exact check -> what both texts become before they are compared."""


class CheckSpec(KnownFields):
    """A check of one answer: a score from 0 to 1, and whether the answer passed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str

    def asked_models(self) -> frozenset[str]:
        """Return the names of the models that the check asks."""
        return frozenset()


class ExactCheck(CheckSpec):
    """The answer is one of `expect`, after both were normalised."""

    kind: Literal["exact"] = "exact"
    expect: Text | Texts
    normalize: Literal["text", "space", "none"] = "text"


class ContainsCheck(CheckSpec):
    """The answer has all texts of `expect`, or one of them with `any`, and none of `unless`."""

    kind: Literal["contains"] = "contains"
    expect: Text | Texts | None = None
    any: bool = False
    unless: Text | Texts | None = None
    ignore_case: bool = True

    @model_validator(mode="after")
    def _check_wants(self) -> Self:
        if self.expect is None and self.unless is None:
            raise ValueError("contains needs expect, unless, or both")
        return self


class RegexCheck(CheckSpec):
    """The pattern is found in the answer, or matches all of it with `whole`. RE2's syntax: linear time."""

    kind: Literal["regex"] = "regex"
    pattern: Annotated[str, Field(min_length=1, max_length=10_000)]
    whole: bool = False
    ignore_case: bool = False

    @field_validator("pattern")
    @classmethod
    def _check_pattern(cls, pattern: str) -> str:
        compile_pattern(pattern)
        return pattern


class SchemaCheck(CheckSpec):
    """The answer is JSON that the schema accepts; `fenced` also takes it out of a code fence."""

    kind: Literal["json_schema"] = "json_schema"
    json_schema: dict[str, Any] | bool
    fenced: bool = False

    @field_validator("json_schema")
    @classmethod
    def _check_schema(cls, schema: dict[str, Any] | bool) -> dict[str, Any] | bool:
        if (fault := schema_fault(schema)) is not None:
            raise ValueError(fault)
        return schema


class RougeCheck(CheckSpec):
    """The best F1 of ROUGE-L to one of the references; the answer passes from `pass_at` on."""

    kind: Literal["rouge_l"] = "rouge_l"
    reference: Text | Texts
    pass_at: Share = 0.5


class JudgeCheck(CheckSpec):
    """A model gives the answer 1 to 5 points by a rubric, which become 0 to 1."""

    kind: Literal["judge"] = "judge"
    model: ModelName
    rubric: Text
    pass_at: Share = 0.75

    def asked_models(self) -> frozenset[str]:
        """Return the judge."""
        return frozenset({self.model})


class PairwiseCheck(CheckSpec):
    """A model decides in both orders whether the answer is better than `reference`: 1, 0, or 0.5 for a tie."""

    kind: Literal["pairwise"] = "pairwise"
    model: ModelName
    reference: Text
    rubric: Text | None = None
    pass_at: Share = 0.5

    def asked_models(self) -> frozenset[str]:
        """Return the judge."""
        return frozenset({self.model})


class GraderCheck(CheckSpec):
    """A grader as reinforcement fine-tuning has them; `item` has the fields that its templates name."""

    kind: Literal["grader"] = "grader"
    grader: dict[str, Any]
    item: dict[str, Any] = Field(default_factory=dict)
    pass_at: Annotated[float, Field(allow_inf_nan=False)] = 0.5

    @field_validator("grader")
    @classmethod
    def _check_grader(cls, fields: dict[str, Any]) -> dict[str, Any]:
        try:
            parsed = parse_grader(fields)
        except GraderInvalid as exc:
            raise ValueError(str(exc)) from exc
        if parsed.sources():
            raise ValueError("python graders run in jobs only; write the check as another kind")
        if parsed.reward_models():
            raise ValueError("reward_model graders run in jobs only; ask a judge instead")
        return fields

    @model_validator(mode="after")
    def _check_item(self) -> Self:
        if missing := sorted(self.parsed().item_fields() - set(self.item)):
            raise ValueError(f"item: the grader names {{{{item.{missing[0]}}}}}, which item does not have")
        return self

    def parsed(self) -> GraderSpec:
        """Return the grader."""
        return parse_grader(self.grader)

    def asked_models(self) -> frozenset[str]:
        """Return the models that the grader asks."""
        return self.parsed().asked_models()


CHECKS: Final[Mapping[str, type[CheckSpec]]] = {
    str(kind.model_fields["kind"].default): kind
    for kind in (
        ExactCheck,
        ContainsCheck,
        RegexCheck,
        SchemaCheck,
        RougeCheck,
        JudgeCheck,
        PairwiseCheck,
        GraderCheck,
    )
}
"""`kind` of a check -> its class."""
