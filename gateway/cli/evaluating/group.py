"""The group `lorry eval`, whose command `run` needs no word: `lorry eval support@7 --suite builtin:core`."""

from __future__ import annotations

from typing import Final

from typer._click import Context

from gateway.cli.help.page import HelpedGroup

RUN: Final = "run"


class EvalGroup(HelpedGroup):
    """A group that takes words which name none of its commands for those of `run`."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Read what was typed, with `run` before it where no command is named."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [RUN, *args]
        return super().parse_args(ctx, args)
