"""Lines of prompt and completion: text that is learnt without a chat template."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from registry.contracts.training_json import check_text, json_kind, shown
from registry.errors import TrainingFileInvalid

TEXT_FIELDS: Final = ("prompt", "completion")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainText:
    """A prompt, and the completion to learn."""

    prompt: str
    """May be empty: then the completion is learnt from its beginning."""
    completion: str


def parse_plain_text(fields: Mapping[str, Any], where: str) -> PlainText:
    """Return the text of a line that has a prompt or a completion; `TrainingFileInvalid` names the field."""
    for key in fields:
        if key == "messages":
            raise TrainingFileInvalid(f"{where}: has messages and {_first_of(fields)}; a line is a chat or a text")
        if key not in TEXT_FIELDS:
            known = " and ".join(TEXT_FIELDS)
            raise TrainingFileInvalid(f"{where}: unknown field {shown(key)}; a line of text has {known}")
    if "prompt" not in fields:
        raise TrainingFileInvalid(f'{where}: prompt is missing; give "" to learn a completion that follows nothing')
    if "completion" not in fields:
        raise TrainingFileInvalid(f"{where}: completion is missing; completion is the text to learn")
    text = PlainText(prompt=_text(fields, "prompt", where), completion=_text(fields, "completion", where))
    if not text.completion.strip():
        raise TrainingFileInvalid(f"{where}: completion is empty; completion is the text to learn")
    return text


def _first_of(fields: Mapping[str, Any]) -> str:
    return next(name for name in TEXT_FIELDS if name in fields)


def _text(fields: Mapping[str, Any], name: str, where: str) -> str:
    if isinstance(fields[name], list):
        raise TrainingFileInvalid(
            f"{where}: {name} must be a string, not {json_kind(fields[name])}; a chat is a line of "
            + '{"messages": [...]}'
        )
    return check_text(fields[name], f"{where}: {name}")
