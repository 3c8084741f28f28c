"""The catalog of graders, and the grader that is made of others."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import PlainValidator, SerializeAsAny, ValidationError, model_validator

from registry.contracts.graders.formula import FUNCTIONS, parse_formula
from registry.contracts.graders.grader_spec import GraderSpec, as_value_error
from registry.contracts.graders.model_graders import LabelModelGrader, RewardModelGrader, ScoreModelGrader
from registry.contracts.graders.text_graders import PythonGrader, StringCheckGrader, TextSimilarityGrader
from registry.errors import GraderInvalid
from registry.wording.field_faults import fault_of

MOST_GRADERS: Final = 20
GRADER_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class MultiGrader(GraderSpec):
    """The value of the formula `calculate_output` over the rewards of other graders."""

    type: Literal["multi"] = "multi"
    graders: SerializeAsAny[GraderSpec] | dict[str, SerializeAsAny[GraderSpec]]
    """Graders by their names in the formula; a single grader, as OpenAI's SDK types have it, goes by its own name."""
    calculate_output: str

    @classmethod
    def parsed_parts(cls, fields: Mapping[str, Any], where: str) -> Mapping[str, Any]:
        """Return *fields* with graders in place of the objects below `graders`."""
        given, place = fields.get("graders"), f"{where}.graders"
        if not isinstance(given, dict):
            raise GraderInvalid(f'{place}: must be an object of graders by their names, {{"NAME": {{...}}}}', place)
        if isinstance(given.get("type"), str):
            return {**fields, "graders": cls._plain(given, place)}
        for name in given:
            if GRADER_NAME.fullmatch(name) is None or name in FUNCTIONS:
                raise GraderInvalid(
                    f"{place}: {name[:64]!r} cannot stand in a formula; take letters, digits and _", place
                )
        return {**fields, "graders": {name: cls._plain(each, f"{place}.{name}") for name, each in given.items()}}

    @staticmethod
    def _plain(fields: Any, where: str) -> GraderSpec:
        grader = parse_grader(fields, where)
        if grader.parts():
            raise GraderInvalid(f"{where}.type: a multi grader cannot be part of another one", f"{where}.type")
        return grader

    @model_validator(mode="after")
    def _check_formula(self) -> Self:
        parts = self.parts()
        if not 1 <= len(parts) <= MOST_GRADERS:
            raise ValueError(f"graders: must have 1 to {MOST_GRADERS} graders, not {len(parts)}")
        formula = as_value_error(lambda: parse_formula(self.calculate_output))
        if unknown := sorted(formula.variables - parts.keys()):
            raise ValueError(f"calculate_output: there is no grader {unknown[0][:64]!r}; there are {', '.join(parts)}")
        if unused := sorted(parts.keys() - formula.variables):
            raise ValueError(f"calculate_output: leaves out the grader {unused[0][:64]!r}")
        return self

    def sources(self) -> Mapping[str, str]:
        """Return the sources of the parts; a single part stands below `graders` without a name."""
        return super().sources() if isinstance(self.graders, dict) else _below("graders", self.graders.sources())

    def parts(self) -> Mapping[str, GraderSpec]:
        """Return the graders by their names in the formula."""
        return self.graders if isinstance(self.graders, dict) else {self.graders.name: self.graders}


GRADER_KINDS: Final[Mapping[str, type[GraderSpec]]] = {
    kind.kind(): kind
    for kind in (
        StringCheckGrader,
        TextSimilarityGrader,
        PythonGrader,
        ScoreModelGrader,
        LabelModelGrader,
        RewardModelGrader,
        MultiGrader,
    )
}
"""`type` of a grader -> its class."""


def parse_grader(fields: Any, where: str = "grader") -> GraderSpec:
    """Return the grader of a JSON object; `GraderInvalid` names the faulty field by its path from *where*."""
    if isinstance(fields, GraderSpec):
        return fields
    if not isinstance(fields, dict):
        raise GraderInvalid(f"{where}: must be an object with a type, one of {', '.join(GRADER_KINDS)}", where)
    kind = fields.get("type")
    if not isinstance(kind, str) or kind not in GRADER_KINDS:
        known, shown = ", ".join(GRADER_KINDS), "is missing" if kind is None else f"{str(kind)[:64]!r} is unknown"
        raise GraderInvalid(f"{where}.type: {shown}; the kinds of graders are {known}", f"{where}.type")
    try:
        return GRADER_KINDS[kind].model_validate(GRADER_KINDS[kind].parsed_parts(fields, where))
    except ValidationError as exc:
        raise _fault_of(exc, fields, where) from exc


def _below(place: str, fields: Mapping[str, str]) -> Mapping[str, str]:
    return {f"{place}.{field}": text for field, text in fields.items()}


def _fault_of(exc: ValidationError, fields: Mapping[str, Any], where: str) -> GraderInvalid:
    # Of the branches of a union the one that got furthest is the one that was meant.
    fault = fault_of(sorted(exc.errors(), key=lambda error: -len(error["loc"])), fields)
    text, steps = fault.text, [*fault.place, *(() if fault.unknown is None else (fault.unknown,))]
    # The checks of a whole grader begin their message with the field at fault.
    field, colon, rest = text.partition(": ")
    if colon and not steps and " " not in field:
        steps, text = [field], rest
    place = ".".join([where, *steps])
    return GraderInvalid(f"{place}: {text}", place)


Grader = Annotated[
    SerializeAsAny[GraderSpec], PlainValidator(lambda fields: as_value_error(lambda: parse_grader(fields)))
]
"""Any grader, distinguished by its field `type`."""
