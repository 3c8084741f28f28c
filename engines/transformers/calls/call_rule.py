"""Text or calls: the one grammar of an answer that may, must or must not call functions."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from conversations.call_forms import CallForm
from engines.transformers.constraints.output_rules import OutputRule, schema_grammar
from engines.transformers.errors import BadRequest

MOST_CALLS: Final = 16
"""Calls that an answer may have: a small model may go on calling without end."""
_ANY_TEXT: Final = "(?s:.*)"
_ANY_OBJECT: Final = '{"type":"object"}'
_NOTHING: Final = '{"type":"object","properties":{},"additionalProperties":false}'
_MALFORMED: Final = ("must be ", "Invalid type", "Expected ", "Pointer ", "Unsatisfiable")
"""Parts of llguidance's reasons for a schema that is wrong, and not only beyond what can be enforced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallableFunction:
    """A function that may be called."""

    name: str
    schema: str | None
    """JSON Schema of the arguments, as JSON; None where the function takes none."""
    is_strict: bool
    param: str
    """The field that has the schema, for messages about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRule:
    """The form of an answer beside tools."""

    form: CallForm
    functions: tuple[CallableFunction, ...]
    is_required: bool
    may_be_several: bool
    content: OutputRule | None = None
    """The form of an answer that calls nothing; None for free text."""
    param: str = "tools"

    def grammar(self, explain: Callable[[str], str], special: Mapping[str, int]) -> str:
        """Return the grammar for llguidance; `BadRequest` names a schema that cannot be enforced.

        *explain* returns why a grammar cannot be compiled, nothing if it can. *special* has the special tokens.
        """
        form, parts = self.form, _Parts(special)
        grammars = [{**_arguments(each, explain), "name": f"arguments{at}"} for at, each in enumerate(self.functions)]
        rules = [f"start: {self._start(parts)}"]
        if self.functions:
            names = [
                f"function{at}: {parts.written(each.name + form.before_arguments)} @arguments{at}"
                for at, each in enumerate(self.functions)
            ]
            choice = " | ".join(f"function{at}" for at in range(len(names)))
            further = f"({parts.written(form.between or '')} call){{0,{MOST_CALLS - 1}}}" if self._may_go_on else ""
            rules += [
                f"calls: call {further} {parts.written(form.ends)}",
                f"call: {parts.written(form.before_name)} ({choice}) {parts.written(form.after_arguments)}",
                *names,
            ]
        if self.content is not None:
            grammars.append({**self.content.named_grammar, "name": "content"})
        main = {"name": "answer", "lark_grammar": "\n".join(["%llguidance {}", *rules, *parts.terminals])}
        return orjson.dumps({"grammars": [main, *grammars]}).decode()

    @property
    def _may_go_on(self) -> bool:
        return self.may_be_several and self.form.between is not None

    def _start(self, parts: _Parts) -> str:
        form = self.form
        calls = f"{parts.written(form.begins)} calls" if self.functions else None
        if self.is_required and calls:
            return calls
        if self.content is not None:
            return " | ".join(filter(None, ["@content", calls]))
        if calls is None or not form.may_follow_text:
            return " | ".join(filter(None, [parts.text_without(form), calls]))
        return f"{parts.text()} | {parts.text_before(form)} calls"


class _Parts:
    """Writes the terminals of a grammar."""

    def __init__(self, special: Mapping[str, int]) -> None:
        self._special = special
        self.terminals: list[str] = []

    def written(self, text: str) -> str:
        """Return *text* as a sequence of strings and special tokens."""
        if not self._special:
            return _quoted(text)
        marks = "|".join(map(re.escape, sorted(self._special, key=len, reverse=True)))
        pieces = re.split(f"({marks})", text)
        return " ".join(f"<[{self._special[piece]}]>" if piece in self._special else _quoted(piece) for piece in pieces)

    def text(self) -> str:
        """Return any text."""
        self.terminals.append(f"TEXT: /{_ANY_TEXT}/")
        return "TEXT"

    def text_before(self, form: CallForm) -> str:
        """Return text that ends with what begins a call, and ends there as soon as this was written."""
        if form.begins in self._special:
            return f"TEXT {self.written(form.begins)}"
        self.terminals.append(f"opening[lazy]: TEXT {_quoted(form.begins)}")
        return "opening"

    def text_without(self, form: CallForm) -> str:
        """Return text that is not a call."""
        mark = re.escape(form.begins).replace("/", r"\/")
        before = _ANY_TEXT if form.may_follow_text else ""
        self.terminals.append(f"PLAIN: /{_ANY_TEXT}/ & ~/{before}{mark}{_ANY_TEXT}/")
        return "PLAIN"


def _quoted(text: str) -> str:
    # Strings are written alike in JSON and in Lark.
    return orjson.dumps(text).decode() if text else ""


def _arguments(function: CallableFunction, explain: Callable[[str], str]) -> dict[str, Any]:
    """Return the grammar of a function's arguments: of its schema, else, unless it is strict, of any object."""
    grammar = schema_grammar(_NOTHING if function.schema is None else _of_object(function.schema))
    reason = explain(grammar)
    if reason and any(sign in reason for sign in _MALFORMED):
        raise BadRequest(f"{function.param} cannot be satisfied by any arguments: {reason}", param=function.param)
    if reason and function.is_strict:
        wording = f"{function.param} cannot be enforced, as strict asks: {reason}"
        raise BadRequest(wording, param=function.param)
    named: dict[str, Any] = orjson.loads(schema_grammar(_ANY_OBJECT) if reason else grammar)["grammars"][0]
    return named


def _of_object(schema: str) -> str:
    """Return the schema with the type of arguments, where it names none."""
    return orjson.dumps({"type": "object", **orjson.loads(schema)}).decode()
