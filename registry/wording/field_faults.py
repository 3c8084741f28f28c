"""Name the fault of a value that a person wrote, in the words of JSON: the one translation of pydantic's errors."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import AfterValidator, ValidationError

from registry.wording.suggestions import meant_or_known

UNKNOWN_FIELD: Final = "unknown_field"
"""Type of the validation error for a field that the model does not have."""
_LONGEST_SHOWN: Final = 64
_REPEATED: Final = ("int_", "float_", "bool_", "enum", "literal_error", "greater_than", "less_than", "multiple_of")
"""Beginnings of the types of errors that repeat the value: a number or a word of a choice, and never a free text."""

SENTENCES: Final[Mapping[str, str]] = {
    "missing": "is missing",
    "extra_forbidden": "is not known here",
    "none_required": "must be null",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "multiple_of": "must be a multiple of {multiple_of}",
    "finite_number": "must be a finite number",
    "too_short": "must have at least {min_length} entries",
    "too_long": "must have at most {max_length} entries",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "must have the form {pattern}",
    "string_not_ascii": "must have letters, digits and signs of ASCII only",
    "string_unicode": "must be text in UTF-8",
    "bytes_too_short": "must have at least {min_length} bytes",
    "bytes_too_long": "must have at most {max_length} bytes",
    "bytes_invalid_encoding": "must be text in {encoding}",
    "enum": "must be {expected}",
    "literal_error": "must be {expected}",
    "union_tag_invalid": "must be {expected_tags} in its field {discriminator}",
    "union_tag_not_found": "is missing its field {discriminator}",
    "json_invalid": "is not JSON: {error}",
    "invalid_key": "must have names that are strings",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "must be a whole number of fewer digits",
    "bool_parsing": "must be true or false",
    "recursion_loop": "must not contain itself",
    "recursion_depth_exceeded": "must be nested less deeply",
    "date_past": "must be a date in the past",
    "date_future": "must be a date in the future",
    "datetime_past": "must be a time in the past",
    "datetime_future": "must be a time in the future",
    "timezone_naive": "must be a time without a time zone",
    "timezone_aware": "must be a time with a time zone",
    "ip_any_address": "must be an IP address, such as 127.0.0.1 or 0.0.0.0",
    "url_scheme": "must be an address that begins with {expected_schemes}",
    "url_too_long": "must be an address of at most {max_length} characters",
    "decimal_max_digits": "must be a number of at most {max_digits} digits",
    "decimal_max_places": "must be a number with at most {decimal_places} digits after the point",
    "decimal_whole_digits": "must be a number with at most {whole_digits} digits before the point",
    "set_item_not_hashable": "must be a list of strings or numbers",
    "missing_argument": "is missing",
    "missing_keyword_only_argument": "is missing",
    "missing_positional_only_argument": "is missing",
    "unexpected_keyword_argument": "is not known here",
    "unexpected_positional_argument": "is not known here",
    "multiple_argument_values": "is given twice",
}
"""Type of pydantic's error -> what holds, or must hold; the keys of the error's context in braces."""

KINDS: Final[Mapping[str, str]] = {
    "json": "a text of JSON",
    "model": "an object",
    "dataclass": "an object",
    "named_tuple": "a list",
    "dict": "an object",
    "frozen_dict": "an object",
    "ordered_dict": "an object",
    "counter": "an object",
    "mapping": "an object",
    "arguments": "an object",
    "list": "a list",
    "deque": "a list",
    "tuple": "a list",
    "set": "a list",
    "frozen_set": "a list",
    "iterable": "a list",
    "iteration": "a list",
    "string": "a string",
    "bytes": "a string",
    "int": "a whole number",
    "float": "a number",
    "decimal": "a number",
    "fraction": "a fraction, such as 3/4",
    "complex": "a complex number",
    "bool": "true or false",
    "date": "a date, such as 2026-03-01",
    "time": "a time, such as 14:05:00",
    "datetime": "a date and a time, such as 2026-03-01T14:05:00Z",
    "timezone": "a time of another time zone",
    "time_delta": "a length of time in seconds",
    "url": "an address, such as https://host/path",
    "uuid": "a UUID",
    "path": "a path",
}
"""First part of the type of an error -> what the value must be."""

_ONE: Final = {"entrie": "entry"}
"""Stem of a plural -> the singular, where that is another word."""
OF_OUR_OWN: Final = ("value_error", "assertion_error")
"""Types of the errors whose message one of our validators wrote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldFault:
    """The first thing that is wrong with an object that a person wrote."""

    place: tuple[str, ...]
    """Names on the way to the value at fault; empty for the object itself."""
    text: str
    """The end of a sentence that begins with the field."""
    unknown: str | None = None
    """The field that does not exist, if that is the fault; `place` leads to its object."""

    @property
    def field(self) -> str | None:
        """The path to the field at fault, None for the object itself."""
        return ".".join((*self.place, *(() if self.unknown is None else (self.unknown,)))) or None

    @property
    def sentence(self) -> str:
        """The fault as a sentence that begins with the place of the value."""
        place = ".".join(self.place)
        return f"{place}: {self.text}" if place else self.text


def fault_in(given: Any, exc: ValidationError, known: Collection[str] = ()) -> FieldFault:
    """Return what is wrong with *given*; *known* are the names of its fields, where the model lists none itself."""
    return fault_of(exc.errors(include_url=False), given, known)


def fault_of(errors: Sequence[Mapping[str, Any]], given: Any, known: Collection[str] = ()) -> FieldFault:
    """Return the first of pydantic's *errors*; the errors of all types that were tried for a value are one fault."""
    first = errors[0]
    place = place_of(first, given)
    if first["type"] == UNKNOWN_FIELD:
        return FieldFault(place=place, text=text_of(first), unknown=first["ctx"]["field"])
    if first["type"] == "extra_forbidden" and place:
        field = place[-1]
        hint = meant_or_known(field, known) if known and len(place) == 1 else ""
        return FieldFault(place=place[:-1], text=f"unknown field {shortened(field)}{hint}", unknown=field)
    # A field that may be of several types has an error for each.
    texts = dict.fromkeys(_told(error) for error in errors if error is first or place_of(error, given) == place)
    if all(text.startswith("must be ") for text in texts):
        kinds = " or ".join(text.removeprefix("must be ") for text in texts)
        return FieldFault(place=place, text=f"must be {kinds}{_repeated(first)}")
    return FieldFault(place=place, text=text_of(first))


def text_of(error: Mapping[str, Any]) -> str:
    """Return what is wrong with a value as the end of a sentence that begins with its name."""
    return _told(error) + _repeated(error)


def _told(error: Mapping[str, Any]) -> str:
    kind, context = str(error["type"]), error.get("ctx") or {}
    if kind in OF_OUR_OWN:
        return str(context.get("error") or error["msg"].partition(", ")[2])
    text = SENTENCES.get(kind) or _wanted(kind)
    if text is None:
        return str(error["msg"])  # of a PydanticCustomError, whose words are ours
    told = text.format_map({name: _listed(value) for name, value in context.items()})
    return re.sub(r"\b1 (entrie|character|byte|digit)s\b", lambda one: f"1 {_ONE.get(one[1], one[1])}", told)


def _repeated(error: Mapping[str, Any]) -> str:
    """Return `, not "two"` where the message repeats the value."""
    value = error.get("input")
    is_repeated = str(error["type"]).startswith(_REPEATED) and isinstance(value, str | int | float)
    return f", not {json_text(value)}" if is_repeated else ""


def place_of(error: Mapping[str, Any], given: Any) -> tuple[str, ...]:
    """Return the names on the way to the value at fault, without those of the types that were tried for it.

    Where nobody kept what was *given* (None), all parts count as names.
    """
    if given is None:
        return tuple(map(str, error["loc"]))
    where: list[str] = []
    at, parts = given, error["loc"]
    for part in parts:
        is_inside = part in at if isinstance(at, Mapping) else isinstance(at, list | tuple) and part in range(len(at))
        if is_inside:
            at = at[part]
        if is_inside or (error["type"] == "missing" and part == parts[-1]):
            where.append(str(part))
    return tuple(where)


def shortened(text: str) -> str:
    """Return *text* as a message may repeat it."""
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def json_text(value: Any) -> str:
    """Return *value* as JSON has it, cut to a length that fits a message."""
    return shortened(json.dumps(value, ensure_ascii=False, default=str))


def written_as(pattern: str, words: str) -> AfterValidator:
    """Return the check of a string field: the whole string has the *pattern*, else it `must be` what *words* have."""
    form = re.compile(pattern)

    def check(text: str) -> str:
        if form.fullmatch(text) is None:
            raise ValueError(f"must be {words}")
        return text

    return AfterValidator(check)


def _wanted(kind: str) -> str | None:
    """Return what a value of another type must be; None for a type of errors that is not pydantic's."""
    parts = kind.split("_")
    for length in range(len(parts) - 1, 0, -1):
        if (name := "_".join(parts[:length])) in KINDS:
            return f"must be {KINDS[name]}"
    return None


def _listed(value: object) -> str:
    """Return `lora, qlora or full` for pydantic's `'lora', 'qlora' or 'full'`."""
    return re.sub(r"'([^']*)'", r"\1", str(value))
