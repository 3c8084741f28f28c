"""All commands of `lorry`, as the help pages list them."""

from __future__ import annotations

from collections.abc import Iterator

import typer
from typer.core import TyperCommand, TyperGroup

from gateway.cli import COMMANDS
from gateway.cli.deferred import load_command


def every_command() -> Iterator[tuple[str, TyperCommand | TyperGroup]]:
    """The words of each command and group, with the command itself."""
    for name, listed in COMMANDS.items():
        command = load_command(name, listed.module, listed.help_line)
        yield name, command
        for below, inner in getattr(command, "commands", {}).items():
            yield f"{name} {below}", inner


def context_of(words: str, command: TyperCommand | TyperGroup) -> typer.Context:
    """The context in which a page of *command* is written; it is not called."""
    *parents, name = ["lorry", *words.split()]
    context: typer.Context | None = None
    for parent in parents:
        context = typer.Context(command, info_name=parent, parent=context)
    return typer.Context(command, info_name=name, parent=context)
