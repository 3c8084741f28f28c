"""`lorry completion SHELL`: print the script by which a shell completes commands, options and names."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

import typer
from typer._completion_shared import get_completion_script

from gateway.cli import COMPLETE

app = typer.Typer()

BASH: Final = r"""
_lorry_completion() {
    local IFS=$'\n' line="${COMP_LINE:0:COMP_POINT}" word last begun
    word="${line##*[[:space:]]}"
    # bash takes support@2 for three words where COMP_WORDBREAKS has an @: complete the whole, give back its end.
    last="${word##*["$COMP_WORDBREAKS"]}"
    begun="${word%"$last"}"
    COMPREPLY=($(env COMPLETE_VARIABLE=complete_fish _TYPER_COMPLETE_FISH_ACTION=get-args \
        _TYPER_COMPLETE_ARGS="$line" "$1" 2>/dev/null | cut -f1))
    COMPREPLY=("${COMPREPLY[@]#"$begun"}")
}
complete -o default -F _lorry_completion lorry
""".replace("COMPLETE_VARIABLE", COMPLETE)
"""Typer's own script for bash loses a name at `@` and `:`, and passes words on without their quotes."""


FIRST_TAB_OF_ZSH: Final = '[ "$funcstack[1]" = "_lorry" ] && _lorry_completion'
"""zsh reads the script at the first Tab; without this line that Tab would complete nothing."""


class Shell(StrEnum):
    """A shell that can be taught to complete."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


@app.command("completion")
def completion(
    shell: Annotated[Shell, typer.Argument(metavar="bash|zsh|fish", help="Shell that the script is for.")],
) -> None:
    """Print what makes a shell complete commands, options, and the gateway's names of adapters, jobs and base models.

    Names are asked of the gateway at LORRY_URL; where none answers within a second, none are completed.
    """
    if shell is Shell.BASH:
        typer.echo(BASH.strip())
    else:
        typer.echo(get_completion_script(prog_name="lorry", complete_var=COMPLETE, shell=shell))
        if shell is Shell.ZSH:
            typer.echo(FIRST_TAB_OF_ZSH)
