"""The templates of graders: `{{ item.answer }}` and `{{ sample.output_json.steps[0] }}`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from registry.errors import GraderInvalid, TemplateUnfilled

SAMPLE_VARIABLES: Final = ("output_text", "output_json", "output_tools", "choices")
"""The names in the namespace `sample`; `output_json` only where the output is JSON."""
_PLACE: Final = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_NAME: Final = re.compile(r"[^\s.\[\]{}]+")
_STEP: Final = re.compile(r"\.([^\s.\[\]{}]+)|\[(\d{1,9})\]|\[\s*(?:'([^']*)'|\"([^\"]*)\")\s*\]")


def check_template(text: str, where: str) -> None:
    """Raise `GraderInvalid` unless every place of *text* names a variable that there can be."""
    for place in _places(text):
        try:
            namespace, *steps = path_of(place)
        except GraderInvalid as exc:
            raise GraderInvalid(f"{where}: {exc}", where) from exc
        if namespace not in ("item", "sample"):
            raise GraderInvalid(f"{where}: {{{{{place}}}}} must begin with item. or sample.", where)
        if not steps:
            raise GraderInvalid(f"{where}: {{{{{place}}}}} must name a variable, as in {{{{{namespace}.NAME}}}}", where)
        if namespace == "sample" and steps[0] not in SAMPLE_VARIABLES:
            known = ", ".join(SAMPLE_VARIABLES)
            raise GraderInvalid(f"{where}: sample has no variable {str(steps[0])[:64]!r}; there are {known}", where)


def fields_of_items(text: str) -> Iterator[str]:
    """Yield the fields of `item` that a valid template names."""
    for place in _places(text):
        namespace, field, *_ = path_of(place)
        if namespace == "item":
            yield str(field)


def fill_template(text: str, namespaces: Mapping[str, Any]) -> str:
    """Return *text* with the values of its places; text stays as it is, other values become JSON.

    `TemplateUnfilled` names a variable without a value.
    """

    def value(match: re.Match[str]) -> str:
        found = _look_up(match[1].strip(), namespaces)
        return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)

    # `sub` does not look into what it has put in, so the text of a sample cannot name further variables.
    return _PLACE.sub(value, text)


def path_of(place: str) -> list[str | int]:
    """Return the steps of `item.a[0]['b c']`; `GraderInvalid` if it is no such path."""
    name = _NAME.match(place)
    at = 0 if name is None else name.end()
    steps: list[str | int] = [] if name is None else [name[0]]
    while steps and at < len(place):
        step = _STEP.match(place, at)
        if step is None:
            break
        index = step[2]
        steps.append(
            int(index) if index is not None else next(each for each in step.group(1, 3, 4) if each is not None)
        )
        at = step.end()
    if not steps or at < len(place):
        raise GraderInvalid(f"{{{{{place[:64]}}}}} is not a path like item.answer or sample.output_json.steps[0]")
    return steps


def _places(text: str) -> Iterator[str]:
    return (match[1].strip() for match in _PLACE.finditer(text))


def _look_up(place: str, namespaces: Mapping[str, Any]) -> Any:
    value: Any = namespaces
    for step in path_of(place):
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError) as exc:
            is_output = place.startswith("sample.output_json")
            raise TemplateUnfilled(
                f"{{{{{place[:64]}}}}} has no value: there is no {str(step)[:64]!r}", is_output
            ) from exc
    return value
