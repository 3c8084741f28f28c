"""Which parsers of tool calls and of reasoning a server gets: those of its settings, or those that fit the template.

Servers name their parsers each in its own way; a driver has the names of its kind. A family is recognized by the words
with which its template writes calls and thoughts, as models of many makers have the template of another.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, TypeVar

from engines.catalog import code_of, kind_of
from engines.settings import EngineSettings

Family = TypeVar("Family", bound=StrEnum)
NO_PARSER: Final = "none"
"""Value of a setting that turns the parser off."""
_CALLS_FLAG: Final = "--tool-call-parser"


class CallFamily(StrEnum):
    """Ways in which models write tool calls."""

    GPT_OSS = "gpt-oss"
    MISTRAL = "mistral"
    QWEN3_CODER = "qwen3-coder"
    HERMES = "hermes"  # Qwen 2.5, Qwen 3 and others
    DEEPSEEK_V3 = "deepseek-v3"
    DEEPSEEK_V31 = "deepseek-v3.1"
    LLAMA3 = "llama-3"


class ReasoningFamily(StrEnum):
    """Ways in which models write what they think before they answer."""

    GPT_OSS = "gpt-oss"
    QWEN3 = "qwen3"
    DEEPSEEK_R1 = "deepseek-r1"


@dataclass(frozen=True, slots=True, kw_only=True)
class ParserNames:
    """The names of a kind's parsers; a family without one has none there."""

    calls: Mapping[CallFamily, str]
    reasoning: Mapping[ReasoningFamily, str]
    by_architecture: frozenset[CallFamily] = frozenset()
    """Families whose calls the server reads without the name of a parser."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsers:
    """The parsers of one server, None for none."""

    calls: str | None
    reasoning: str | None


_BAR: Final = "\N{FULLWIDTH VERTICAL LINE}"
_CALLS_BEGIN: Final = f"<{_BAR}tool\N{LOWER ONE EIGHTH BLOCK}calls\N{LOWER ONE EIGHTH BLOCK}begin{_BAR}>"
_CALL_MARKS: Final[Mapping[CallFamily, tuple[str, ...]]] = {
    CallFamily.GPT_OSS: (r"<\|channel\|>", r"<\|call\|>"),
    CallFamily.MISTRAL: (r"\[TOOL_CALLS\]", r"\btools\b"),
    CallFamily.QWEN3_CODER: ("<tool_call>", "<function=", "<parameter=", r"\btools\b"),
    CallFamily.HERMES: (r"<tool_call>(\\n|\s)*\{", r"\btools\b"),
    CallFamily.DEEPSEEK_V3: (_CALLS_BEGIN, "```json", r"\btools\b"),
    CallFamily.DEEPSEEK_V31: (_CALLS_BEGIN, r"\btools\b"),
    CallFamily.LLAMA3: (r"<\|start_header_id\|>", '"parameters": ', r"\btools\b"),
}
"""Patterns that a template of the family has, all of them; the first family counts.

A template that does not mention `tools` shows none, so that nothing could be called.
"""
_REASONING_MARKS: Final[Mapping[ReasoningFamily, tuple[str, ...]]] = {
    ReasoningFamily.GPT_OSS: (r"<\|channel\|>", r"<\|call\|>"),
    ReasoningFamily.QWEN3: (r"<\|im_start\|>", "</think>", "enable_thinking"),
    ReasoningFamily.DEEPSEEK_R1: (f"<{_BAR}Assistant{_BAR}><think>",),
}


def parsers_of_kind(kind: str, base_path: Path) -> Parsers | None:
    """Return the parsers that a kind's servers get for a model, None for a kind that needs none; `UnknownEngine`."""
    names = kind_of(kind).parsers
    return None if names is None else fitting_parsers(base_path, code_of(names))


def fitting_parsers(base_path: Path, names: ParserNames) -> Parsers:
    """Return the parsers of the families that the chat template in *base_path* belongs to."""
    template = _template_of(base_path)
    calls, reasoning = _family(template, _CALL_MARKS), _family(template, _REASONING_MARKS)
    return Parsers(
        calls=names.calls.get(calls) if calls else None,
        reasoning=names.reasoning.get(reasoning) if reasoning else None,
    )


def reads_calls(settings: EngineSettings) -> bool:
    """Whether servers with these settings read the tool calls that their model writes."""
    reference = kind_of(settings.kind).parsers
    if reference is None or _is_given(settings, _CALLS_FLAG):
        return True
    names: ParserNames = code_of(reference)
    family = _family(_template_of(settings.base_path), _CALL_MARKS)
    return family in names.by_architecture or choose_parsers(settings, names).calls is not None


def choose_parsers(settings: EngineSettings, names: ParserNames) -> Parsers:
    """Return the parsers that the settings name, or those that fit the base model's template."""
    fitting = fitting_parsers(settings.base_path, names)
    return Parsers(
        calls=_chosen(settings, _CALLS_FLAG, settings.tool_call_parser, fitting.calls),
        reasoning=_chosen(settings, "--reasoning-parser", settings.reasoning_parser, fitting.reasoning),
    )


def _chosen(settings: EngineSettings, flag: str, asked: str | None, fitting: str | None) -> str | None:
    if asked is not None:
        return None if asked == NO_PARSER else asked
    return None if _is_given(settings, flag) else fitting


def _is_given(settings: EngineSettings, flag: str) -> bool:
    return any(argument.partition("=")[0].replace("_", "-") == flag for argument in settings.extra_args)


def _family(template: str, marks: Mapping[Family, tuple[str, ...]]) -> Family | None:
    found = (family for family, patterns in marks.items() if all(re.search(one, template) for one in patterns))
    return next(found, None)


def _template_of(folder: Path) -> str:
    """Return the chat templates in *folder*, joined; empty without one."""
    found = [path.read_text(errors="replace") for path in sorted(folder.rglob("*.jinja"))]
    try:
        config: Any = json.loads((folder / "tokenizer_config.json").read_bytes())
    except (OSError, ValueError):  # a server reports a broken tokenizer
        config = {}
    written = config.get("chat_template") if isinstance(config, dict) else None
    named = written if isinstance(written, list) else [written]
    found += [str(entry.get("template", "") if isinstance(entry, dict) else entry or "") for entry in named]
    return "\n".join(found)
