"""Models whose error for an unknown field names the one that was meant."""

from __future__ import annotations

from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from registry.wording.field_faults import UNKNOWN_FIELD, shortened
from registry.wording.suggestions import meant_or_known

NOT_A_NUMBER: Final = "not_a_number"
"""Type of the validation error for true or false in the place of a number."""


def without_nulls(value: Any, levels: int = 32) -> Any:
    """Return *value* without the fields of its objects that are null; null means absent at every depth."""
    if levels and isinstance(value, list):
        return [without_nulls(entry, levels - 1) for entry in value]
    if levels and isinstance(value, dict):
        return {key: without_nulls(entry, levels - 1) for key, entry in value.items() if entry is not None}
    return value


class KnownFields(BaseModel):
    """Base of models for what people write; the error for an unknown field names the one that was meant, or all."""

    @model_validator(mode="before")
    @classmethod
    def check_fields(cls, value: Any) -> Any:
        """Return *value* unchanged; raise for its first unknown field."""
        if isinstance(value, dict) and (unknown := sorted(set(value) - set(cls.model_fields), key=str)):
            field = str(unknown[0])
            facts = {"field": field, "shown": shortened(field), "hint": meant_or_known(field, cls.model_fields)}
            raise PydanticCustomError(UNKNOWN_FIELD, "unknown field {shown}{hint}", facts)
        return value

    @field_validator("*", mode="before")
    @classmethod
    def check_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        """Return *value* unchanged; raise for true or false in the place of a number, which Python takes for 1 or 0."""
        if isinstance(value, bool) and _is_number(cls.model_fields[str(info.field_name)].annotation):
            facts = {"value": "true" if value else "false"}
            raise PydanticCustomError(NOT_A_NUMBER, "must be a number, not {value}", facts)
        return value


def _is_number(annotation: Any) -> bool:
    """Whether *annotation* has a number among its types, and neither a boolean nor any value."""
    types = _types(annotation)
    return not types.isdisjoint({int, float}) and types.isdisjoint({bool, Any, object})


def _types(annotation: Any) -> set[Any]:
    arguments = get_args(annotation)
    found = {each for argument in arguments for each in _types(argument)} if arguments else set()
    return found or ({annotation} if isinstance(annotation, type) or annotation is Any else set())
