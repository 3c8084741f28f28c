"""The base of all JSON objects of the API, and the lists of objects."""

from __future__ import annotations

from typing import Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict


class ApiObject(BaseModel):
    """A JSON object of an answer. A reader ignores fields that only a newer gateway sends."""

    model_config = ConfigDict(frozen=True, defer_build=True)


class ListedObject(ApiObject):
    """An object of a list that is read page by page."""

    id: str
    """Name of the object in the path of its own endpoint, and as a cursor in `after`."""


class FoundId(ApiObject):
    """An id, or the name of a revision, that begins with what somebody typed."""

    id: str


Item = TypeVar("Item", bound=BaseModel)
Listed = TypeVar("Listed", bound=ListedObject)


class ObjectList(ApiObject, Generic[Item]):
    """A whole list."""

    object: Literal["list"] = "list"
    data: list[Item]


class ObjectPage(ApiObject, Generic[Listed]):
    """A page of a list, with the cursors that OpenAI's clients expect."""

    object: Literal["list"] = "list"
    data: list[Listed]
    has_more: bool
    first_id: str | None = None
    last_id: str | None = None
    """Value of `after` for the next page."""


def page_of(found: list[Listed], limit: int) -> ObjectPage[Listed]:
    """Return the first *limit* objects of *found* as a page; a longer list means that more follow."""
    data = found[:limit]
    return ObjectPage(
        data=data,
        has_more=len(found) > limit,
        first_id=data[0].id if data else None,
        last_id=data[-1].id if data else None,
    )
