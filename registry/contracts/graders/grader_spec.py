"""A grader as a caller wrote it, and the questions that every kind of grader answers about itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any, Final, Self, TypeVar

from pydantic import (
    ConfigDict,
    Field,
    model_validator,
)

from registry.contracts.graders.templates import check_template, fields_of_items
from registry.errors import GraderInvalid
from registry.wording.known_fields import KnownFields

LONGEST_TEXT: Final = 100_000

Name = Annotated[str, Field(min_length=1, max_length=100)]
Template = Annotated[str, Field(max_length=LONGEST_TEXT)]


class GraderSpec(KnownFields):
    """A grader as a caller wrote it. Each kind is a subclass in `registry.contracts.graders.grader_kinds`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: str
    name: Name

    def templates(self) -> Mapping[str, str]:
        """Return the templates of the grader by the path of their field."""
        return {}

    def parts(self) -> Mapping[str, GraderSpec]:
        """Return the graders of which this one is made, by their names in its formula; none for a plain grader."""
        return {}

    def asked_models(self) -> frozenset[str]:
        """Return the names of the models that the grader sends chats to."""
        return frozenset().union(*(part.asked_models() for part in self.parts().values()))

    def reward_models(self) -> frozenset[str]:
        """Return the names of the revisions with a reward head that the grader scores with."""
        return frozenset().union(*(part.reward_models() for part in self.parts().values()))

    @classmethod
    def kind(cls) -> str:
        """Return the value of `type` that all graders of this kind have."""
        return str(cls.model_fields["type"].default)

    @classmethod
    def parsed_parts(cls, fields: Mapping[str, Any], where: str) -> Mapping[str, Any]:
        """Return the *fields* of a grader with its parts parsed; `GraderInvalid` names a fault after *where*."""
        return fields

    def sources(self) -> Mapping[str, str]:
        """Return the sources of Python that the grader runs, by the path of their field."""
        parts = self.parts().items()
        return {f"graders.{name}.{field}": text for name, part in parts for field, text in part.sources().items()}

    def item_fields(self) -> frozenset[str]:
        """Return the fields of `item` that the grader's templates name."""
        own = {field for text in self.templates().values() for field in fields_of_items(text)}
        return frozenset(own).union(*(part.item_fields() for part in self.parts().values()))

    @model_validator(mode="after")
    def _check_templates(self) -> Self:
        for where, text in self.templates().items():
            as_value_error(partial(check_template, text, where))
        return self


T = TypeVar("T")


def as_value_error(check: Callable[[], T]) -> T:
    """Return what *check* returns; pydantic collects a `ValueError`, but not an error of ours."""
    try:
        return check()
    except GraderInvalid as exc:
        raise ValueError(str(exc)) from exc
