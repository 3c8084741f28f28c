"""Models whose error for an unknown field lists the fields that exist."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel, model_validator
from pydantic_core import PydanticCustomError

UNKNOWN_FIELD: Final = "unknown_field"
"""Type of the validation error for a field that the model does not have."""


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
