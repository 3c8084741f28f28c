"""The layout of a help page: usage, what the command does, arguments, options, commands, examples. Pure text."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import typer
from typer._click import Context
from typer.core import TyperCommand, TyperGroup

from gateway.cli.help.examples import EXAMPLES

WIDEST: Final = 100
"""Columns of a page on a wider terminal: longer lines are hard to read."""
_LEFT: Final = 31
"""Most columns of what is typed; a longer name stands on a line of its own."""
_NUMBERS: Final[Mapping[str, str]] = {"int": "N", "int range": "N", "float": "NUMBER", "float range": "NUMBER"}
"""Typer's name of a type -> what stands for such a value on a page."""

Rows = Sequence[tuple[str, str]]
"""Words that are typed, and their meaning."""


class HelpedCommand(TyperCommand):
    """A command whose page has the layout of this file, and whose refusals of values are in our words."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Read what was typed; `BadParameter` names the option and what its value must be."""
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as exc:
            raise _in_our_words(exc) from exc

    def get_usage(self, ctx: Context) -> str:
        """Return the line that shows how the command is typed."""
        return usage(self, ctx)

    def get_help(self, ctx: Context) -> str:
        """Return the page."""
        return page(self, ctx, {})


class HelpedGroup(TyperGroup):
    """A group of commands whose page has the layout of this file."""

    def get_usage(self, ctx: Context) -> str:
        """Return the line that shows how a command of the group is typed."""
        return usage(self, ctx)

    def get_help(self, ctx: Context) -> str:
        """Return the page."""
        return page(self, ctx, self.sections(ctx))

    def sections(self, ctx: Context) -> Mapping[str, Rows]:
        """Return the group's commands below their headings."""
        listed = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        rows = [(name, _first_paragraph(found.help)) for name, found in listed if found is not None]
        return {"Commands": rows}


def _in_our_words(refusal: typer.BadParameter) -> typer.BadParameter:
    """Return the refusal of a value without the words of pydantic, by which Typer checks values."""
    from pydantic import ValidationError  # as the next line: only a command that was not understood needs them

    from registry.wording.field_faults import shortened, text_of

    if not isinstance(refusal.__cause__, ValidationError):
        return refusal
    error = refusal.__cause__.errors(include_url=False)[0]
    told, given = text_of({**error, "input": None}).removesuffix("."), str(error["input"])
    # Typer's own sentence on a choice begins with the value.
    message = told if told.startswith(repr(given)) else f"{told}, not {shortened(given)}"
    return typer.BadParameter(message, ctx=refusal.ctx, param=refusal.param)


def usage(command: TyperCommand | TyperGroup, ctx: Context) -> str:
    """Return `Usage: lorry rollout start ADAPTER@N [OPTIONS]`; a command of a group stands where its name goes."""
    needed = [name if is_required else f"[{name}]" for name, is_required in _arguments(command, ctx)]
    words = [ctx.command_path, *needed]
    if command.allow_interspersed_args is False:  # a group
        words.append("COMMAND")
    return f"Usage: {' '.join(words)} [OPTIONS]"


def page(command: TyperCommand | TyperGroup, ctx: Context, sections: Mapping[str, Rows]) -> str:
    """Return the whole page of *command*; *sections* have the commands below it."""
    width = min(shutil.get_terminal_size((80, 24)).columns, WIDEST)
    options = [(_option_name(name), text) for name, text in _records(command, ctx, "option")]
    arguments = _records(command, ctx, "argument")
    names = [name for name, _ in _arguments(command, ctx)]
    parts = [usage(command, ctx), *_paragraphs(command.help or "", width)]
    parts += [_table(title, rows, width) for title, rows in sections.items() if rows]
    if arguments:
        parts.append(_table("Arguments", list(zip(names, (text for _, text in arguments), strict=True)), width))
    if options:
        parts.append(_table("Options", options, width))
    if examples := EXAMPLES.get(" ".join(ctx.command_path.split()[1:])):
        parts.append(_examples(examples))
    return "\n\n".join(parts)


def _arguments(command: TyperCommand | TyperGroup, ctx: Context) -> list[tuple[str, bool]]:
    """Return the placeholder of each argument, and whether it must be given."""
    found = (each for each in command.get_params(ctx) if each.param_type_name == "argument")
    return [((each.metavar or each.name.upper()) + ("..." if each.nargs != 1 else ""), each.required) for each in found]


def _records(command: TyperCommand | TyperGroup, ctx: Context, kind: str) -> list[tuple[str, str]]:
    """Return what Typer shows of each parameter of a *kind*, those without a help text too."""
    records = (each.get_help_record(ctx) for each in command.get_params(ctx) if each.param_type_name == kind)
    return [(left, _range_in_words(text)) for left, text in filter(None, records)]


def _range_in_words(text: str) -> str:
    """Return `[at least 1]` for `[x>=1]`, and `[1 to 1000]` for `[1<=x<=1000]`."""
    text = re.sub(r"([\d.]+)<=x<=([\d.]+)", r"\1 to \2", text)
    return re.sub(r"x>=([\d.]+)", r"at least \1", text)


def _option_name(text: str) -> str:
    """Return `--limit N` for `--limit <int range>`, and `--side canary|stable` for a choice."""
    return re.sub(r"<([^>]+)>", lambda found: _NUMBERS.get(found[1], found[1]), text)


def _first_paragraph(text: str | None) -> str:
    return " ".join((text or "").partition("\n\n")[0].split())


def _paragraphs(text: str, width: int) -> list[str]:
    return [textwrap.fill(" ".join(part.split()), width) for part in text.split("\n\n") if part.strip()]


def _table(title: str, rows: Rows, width: int) -> str:
    left = min(max(len(name) for name, _ in rows) + 4, _LEFT)
    lines = [heading(title)]
    for name, text in rows:
        wrapped = textwrap.wrap(text, width - left) or [""]
        if len(name) + 4 > left:
            lines.append(f"  {name}")
        else:
            lines.append(f"  {name:<{left - 2}}{wrapped.pop(0)}".rstrip())
        lines += [" " * left + line for line in wrapped]
    return "\n".join(lines)


def _examples(examples: Iterable[tuple[str, str]]) -> str:
    """Return the examples as they are typed, never wrapped: a person copies them."""
    lines = [heading("Examples")]
    for does, typed in examples:
        lines += [f"  # {does}", f"  {typed}"]
    return "\n".join(lines)


def heading(title: str) -> str:
    """Return a heading, bold where the terminal can; what prints a page leaves colours out of a pipe."""
    return typer.style(f"{title}:", bold=True)
