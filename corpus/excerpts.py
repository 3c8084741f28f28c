"""The beginnings of single rows of a file, for people."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from corpus.findings.personal import PersonalFinder
from corpus.report import EXCERPT


def excerpts_of(path: Path, lines: Iterable[int]) -> dict[int, str]:
    """Return the beginning of each of the *lines* of the file; one with a secret or personal data is left out."""
    wanted = set(lines)
    if not wanted:
        return {}
    finder = PersonalFinder()
    found = {}
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if number in wanted:
                found[number] = _shown(line, finder)
    return found


def _shown(line: bytes, finder: PersonalFinder) -> str:
    text = spoken(line)
    if hits := finder.find(text):
        return f"(not shown: has {', '.join(sorted(hit.kind for hit in hits))})"
    return text[:EXCERPT] + ("…" if len(text) > EXCERPT else "")


def spoken(line: bytes) -> str:
    """Return the texts of a line with the role of each, in their order."""
    return "\n".join(_texts(json.loads(line.decode("utf-8-sig")))).strip()


def _texts(fields: dict[str, Any]) -> list[str]:
    if "prompt" in fields:
        return [f"prompt: {fields.get('prompt')}", f"completion: {fields.get('completion')}"]
    if "preferred_output" in fields:
        both = {"preferred": fields["preferred_output"], "not preferred": fields["non_preferred_output"]}
        answers = [f"{name}: {_content(message)}" for name, turns in both.items() for message in turns]
        return [*_turns(fields["input"]["messages"]), *answers]
    label = [f"label: {'good' if fields['label'] else 'bad'}"] if isinstance(fields.get("label"), bool) else []
    return [*_turns(fields["messages"]), *label]


def _turns(messages: list[dict[str, Any]]) -> list[str]:
    return [f"{message['role']}: {_content(message)}" for message in messages]


def _content(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    if isinstance(content, list):
        content = " ".join(part.get("text") or "(picture)" for part in content)
    calls = [
        f"{call['function']['name']}({call['function'].get('arguments')})" for call in message.get("tool_calls") or ()
    ]
    return " ".join(filter(None, (content, *calls)))
