"""Models whose error for an unknown field lists the fields that exist."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel, model_validator
from pydantic_core import PydanticCustomError

UNKNOWN_FIELD: Final = "unknown_field"
"""Type of the validation error for a field that the model does not have."""


def without_nulls(value: Any, levels: int = 32) -> Any:
    """Return *value* without the fields of its objects that are null; null means absent at every depth."""
    if levels and isinstance(value, list):
        return [without_nulls(entry, levels - 1) for entry in value]
    if levels and isinstance(value, dict):
        return {key: without_nulls(entry, levels - 1) for key, entry in value.items() if entry is not None}
    return value


class KnownFields(BaseModel):
    """Base of models for what callers send; the error for an unknown field lists the known ones."""

    @model_validator(mode="before")
    @classmethod
    def check_fields(cls, value: Any) -> Any:
        """Return *value* unchanged; raise for its first unknown field."""
        if isinstance(value, dict) and (unknown := sorted(set(value) - set(cls.model_fields))):
            facts = {"field": unknown[0], "known": ", ".join(cls.model_fields)}
            raise PydanticCustomError(UNKNOWN_FIELD, "unknown field {field}; there are {known}", facts)
        return value
