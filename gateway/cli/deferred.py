"""Commands that are imported when they are called, so that `lorry --help` imports none of them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand
from typer.main import get_group


class DeferredCommand(TyperCommand):
    """A line of `lorry --help` that is replaced by the command itself when the command is called."""

    def __init__(self, name: str, module: str, help_line: str) -> None:
        super().__init__(name, help=help_line)
        self._module = module

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Return the context of the command of this name in the Typer application `app` of the module."""
        holder = typer.Typer()
        holder.add_typer(import_module(self._module).app, help=self.help)
        return get_group(holder).commands[str(self.name)].make_context(info_name, args, parent, **extra)
