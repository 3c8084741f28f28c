"""A lineage as lines of a tree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from rich.text import Text

from gateway.cli.models.origin import is_time
from gateway.cli.output import moment, short_digest
from gateway.cli.tables.forms import printable
from gateway.objects.weights.lineage import LineageNodeObject, LineageObject

_STYLES: Final[Mapping[str, str]] = {"deleted": "red", "retired": "yellow"}
_LONG_FACTS: Final = (
    "hyperparameters",
    "versions",
    "machine",
    "metrics",
    "quantization",
    "load_tests",
    "compared",
    "spec",
    "scores",
    "gate",
)
"""Facts that get a line of their own."""
_NOT_SHOWN: Final = ("files", "target_modules", "path")
"""Facts that `--json` alone has."""


def tree_of(lineage: LineageObject) -> Iterator[Text]:
    """Yield the lines: the thing, what it came from below it, then what was made of it."""
    yield from _lines(lineage.node, "", "")
    if lineage.became:
        yield Text("")
        yield Text(f"Made of {lineage.node.name}:", style="bold")
        for number, node in enumerate(lineage.became):
            yield from _branch(node, "", is_last=number == len(lineage.became) - 1)


def _branch(node: LineageNodeObject, indent: str, *, is_last: bool) -> Iterator[Text]:
    yield from _lines(node, indent + ("└─ " if is_last else "├─ "), indent + ("   " if is_last else "│  "))


def _lines(node: LineageNodeObject, first: str, indent: str) -> Iterator[Text]:
    yield _headline(node, first)
    below = indent + ("│  " if node.parts else "   ")
    for name in _LONG_FACTS:
        if fact := node.facts.get(name):
            yield Text(printable(f"{below}{name}: {_words(fact)}"), style="dim")
    for number, part in enumerate(node.parts):
        yield from _branch(part, indent, is_last=number == len(node.parts) - 1)


def _headline(node: LineageNodeObject, first: str) -> Text:
    line = Text(first)
    if node.relation and node.kind != "act":
        line.append(f"{node.relation} ", style="dim")
    line.append(printable(node.name), style="bold" if not node.relation else "")
    if node.state in _STYLES:
        line.append(f" ({node.state})", style=_STYLES[node.state])
    facts = [node.kind if node.kind not in ("act", "review") else "", *_short_facts(node)]
    line.append(printable("  " + ", ".join(fact for fact in facts if fact)), style="dim")
    return line


def _short_facts(node: LineageNodeObject) -> Iterator[str]:
    for name, fact in node.facts.items():
        if name in (*_LONG_FACTS, *_NOT_SHOWN) or fact in (None, "", False, []):
            continue
        yield f"{name.removesuffix('_at').replace('_', ' ')} {_words(fact, name)}"
    if node.digest:
        yield f"sha256 {short_digest(node.digest)}"
    if node.by:
        yield f"by {node.by}"
    if node.at is not None:
        yield str(moment(node.at))


def _words(fact: Any, named: str = "") -> str:
    """Return a fact in one line: `rank 16, optimizer kind adamw`; unix seconds of an `at` as a time."""
    if isinstance(fact, float) and is_time(named):
        return str(moment(fact))
    if isinstance(fact, Mapping):
        told = {name: value for name, value in fact.items() if value not in (None, "", {}, [])}
        return ", ".join(f"{name} {_words(value, name)}" for name, value in told.items())
    if isinstance(fact, Sequence) and not isinstance(fact, str):
        return " ".join(_words(value) for value in fact)
    return f"{fact:g}" if isinstance(fact, float) else str(fact)
