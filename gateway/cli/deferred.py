"""Commands that are imported when they are called, so that `lorry --help` imports none of them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group

from gateway.cli.help.page import HelpedCommand, HelpedGroup


def load_command(name: str, module: str, help_line: str) -> TyperCommand | TyperGroup:
    """Return the command *name* of the Typer application `app` of *module*, with our help pages."""
    app: typer.Typer = import_module(module).app
    for registered in app.registered_commands:
        registered.cls = HelpedCommand
    holder = typer.Typer(rich_markup_mode=None)
    # A group may have a class of its own; Typer stands a placeholder for one that was not given.
    kind = app.info.cls if isinstance(app.info.cls, type) else HelpedGroup
    holder.add_typer(app, cls=kind, help=help_line)
    loaded: TyperCommand | TyperGroup = get_group(holder).commands[name]  # type: ignore[assignment]
    return loaded


class DeferredCommand(TyperCommand):
    """A line of `lorry --help` that is replaced by the command itself when the command is called."""

    def __init__(self, name: str, module: str, help_line: str) -> None:
        super().__init__(name, help=help_line)
        self._module = module

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Return the context of the command itself."""
        command = load_command(str(self.name), self._module, self.help or "")
        return command.make_context(info_name, args, parent, **extra)
