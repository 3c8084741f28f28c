"""From the bytes of a body to checked fields; what is wrong is named in the words of JSON, not of Python."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, TypeVar

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from engines.transformers.errors import BadRequest
from engines.transformers.requests.neutral import NEUTRAL

Parsed = TypeVar("Parsed", bound="Fields")

_EXACT_FLOATS: Final = 2**53
"""Below this every whole number has a float of its own (IEEE 754)."""
_LONGEST_SHOWN: Final = 64
MOST_LEVELS: Final = 100
TOO_DEEP: Final = f"must be nested at most {MOST_LEVELS} levels deep"
_OWN: Final = "must"
"""Type of the errors whose whole message is ours."""
WRONG_KIND: Final = "wrong_kind"
"""Type of the errors whose message states what a value must be; what the value is follows."""
_WANTED: Final[Mapping[str, str]] = {
    "string_type": "must be a string",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "list_type": "must be an array",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "literal_error": "must be {expected}",
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be above {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be below {lt}",
    "string_too_short": "must have at least {min_length} character(s)",
}
"""Pydantic's type of an error -> what the value must be; the keys of its context in braces."""
_SUCCESSORS: Final[Mapping[str, str]] = {"functions": "tools", "function_call": "tool_choice"}
"""Fields of OpenAI's that are older than tools, with the fields that took their place."""
_LENGTHS: Final[Mapping[str, str]] = {
    "too_short": "must have at least {min_length} entries, not {actual_length}",
    "too_long": "must have at most {max_length} entries, not {actual_length}",
}


class Fields(BaseModel):
    """Members of a JSON object; a member that is null counts as absent, here and in every object inside."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, members: Any) -> Any:
        if not isinstance(members, dict):
            return members
        return {name: value for name, value in members.items() if value is not None}


def whole_number(value: Any) -> Any:
    """Return *value* as an int where it is a whole number: JSON has one kind of number, and `1e5` is whole."""
    if not isinstance(value, float) or not value.is_integer():
        return value
    if abs(value) >= _EXACT_FLOATS:
        raise must(f"must be a whole number of at most 64 bits, not {shown(value)}")
    return int(value)


Whole = Annotated[int, BeforeValidator(whole_number)]
"""A whole number, however it is written."""


def parse_body(model: type[Parsed], body: bytes) -> Parsed:
    """Parse *body* as *model*; `BadRequest` names the first field that is wrong."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        fault = "it is not UTF-8" if "UTF-8" in exc.msg else exc
        raise BadRequest(f"the body is not JSON: {fault}", code="invalid_json") from exc
    if not isinstance(fields, dict):
        raise BadRequest("the body must be a JSON object", code="invalid_json")
    if body.count(b"[") + body.count(b"{") > MOST_LEVELS:
        for name, value in fields.items():
            if is_deep(value):
                raise BadRequest(f"{shortened(name)} {TOO_DEEP}", param=shortened(name))
    try:
        return model.model_validate(fields)
    except ValidationError as exc:
        raise _refusal(model, exc.errors(include_url=False)[0]) from exc


def is_deep(value: Any) -> bool:
    """Return whether arrays and objects are nested deeper than what reads them follows."""
    level = [value]
    for _ in range(MOST_LEVELS):
        level = [inner for part in level for inner in _parts(part)]
        if not level:
            return False
    return True


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def field_path(location: tuple[int | str, ...]) -> str:
    """Return `messages[0].role` from pydantic's location, without the tags of unions in it."""
    path = shortened(str(location[0])) if location else "body"
    for part in location[1:]:
        if isinstance(part, int):
            path += f"[{part}]"
        elif " " not in part:  # every tag is a phrase
            path += f".{shortened(part)}"
    return path


def json_kind(value: Any) -> str:
    """Return `an array` and the like: what *value* is in JSON."""
    kinds = {str: "a string", list: "an array", dict: "an object", bool: "a boolean"}
    return kinds.get(type(value), "null" if value is None else "a number")


def shortened(text: str) -> str:
    """Return *text* as it may stand in a message, cut where it is long."""
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def must(message: str) -> PydanticCustomError:
    """Return the error of a field, for a validator to raise: the *message* follows the field's name."""
    # Braces would be read as places for a context.
    return PydanticCustomError(_OWN, "{message}", {"message": message})


def missing() -> PydanticCustomError:
    """Return the error of a field that must be there."""
    return PydanticCustomError("missing", "is required")


def _refusal(model: type[Fields], error: ErrorDetails) -> BadRequest:
    field, kind = field_path(error["loc"]), error["type"]
    if kind == "extra_forbidden":
        return _unsupported(model, field, is_top=len(error["loc"]) == 1)
    if kind == "missing":
        return BadRequest(f"{field} is required", param=field, code="missing_required_parameter")
    return BadRequest(f"{field} {_wording(error)}", param=field)


def _hint(field: str) -> str:
    successor = _SUCCESSORS.get(field)
    return f"; {successor} took its place" if successor else ""


def _unsupported(model: type[Fields], field: str, *, is_top: bool) -> BadRequest:
    known = f"; it takes {', '.join(sorted(model.model_fields))}" if is_top else ""
    harmless = " or ".join(orjson.dumps(value).decode() for value in NEUTRAL.get(field, ()))
    but = f", except as {harmless}, which asks for nothing" if is_top and harmless else ""
    message = f"{field} is not supported by this engine{_hint(field) or but}{known}"
    return BadRequest(message, param=field, code="unsupported_parameter")


def _wording(error: ErrorDetails) -> str:
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    if kind in _LENGTHS:
        return re.sub(r"\b1 entries", "1 entry", _LENGTHS[kind].format(**context))
    if kind in _WANTED:
        wanted = _WANTED[kind].format(**context).replace("'", '"')
        return f"{wanted}, not {shown(value)}"
    if kind == WRONG_KIND:
        return f"{error['msg']}, not {shown(value)}"
    # The words of every other error would be pydantic's, about Python.
    return error["msg"] if kind == _OWN else f"is not taken with this value, {shown(value)}"


def shown(value: Any) -> str:
    """Return *value* as a message may show it: what it is in JSON, cut where it is long."""
    if isinstance(value, str | int | float) and value is not None:
        return shortened(orjson.dumps(value).decode())
    return json_kind(value)
