"""`lorry status`: what runs, what moves, and what needs a person, on one page."""

from __future__ import annotations

import time
from typing import Annotated, Final

import typer
from rich.console import Group

from gateway.cli.client import Client
from gateway.cli.errors import CommandFailed
from gateway.cli.operating.status_page import page_of
from gateway.cli.output import JsonFlag, note, screen_of, show_json, show_lines, stdout_console
from gateway.objects.status import SystemStatus

app = typer.Typer()

NEEDS_A_PERSON: Final = 3
_EVERY_S: Final = 2.0


@app.command("status")
def status(
    watching: Annotated[
        bool, typer.Option("--watch", help="Keep the page on the screen until Ctrl-C, read every two seconds.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show on one page what runs, what moves, and what needs a person, with what to type next.

    Exit code 0 where nothing needs a person, 3 where something does, 1 where no gateway answers.
    """
    with Client() as client:
        found = client.get("/admin/status", SystemStatus)
        if watching:
            _watch(client, found, as_json)
            return
    _show(found, as_json)
    if found.needs:
        raise typer.Exit(NEEDS_A_PERSON)


def _show(found: SystemStatus, as_json: bool) -> None:
    if as_json:
        show_json(found)
    else:
        show_lines(page_of(found, screen_of(), time.time()))


def _watch(client: Client, found: SystemStatus, as_json: bool) -> None:
    """Show the status until Ctrl-C: at a terminal a page in its place, elsewhere one page after the other."""
    console = stdout_console()
    if as_json or not console.is_terminal or console.is_dumb_terminal:
        while True:
            _show(found, as_json)
            time.sleep(_EVERY_S)
            found = _next(client, found)
    from rich.live import Live

    with Live(console=console, auto_refresh=False, screen=True) as live:
        while True:
            live.update(Group(*page_of(found, screen_of(), time.time())), refresh=True)
            time.sleep(_EVERY_S)
            found = _next(client, found)


def _next(client: Client, before: SystemStatus) -> SystemStatus:
    """Return the status of now; the last one while no gateway answers, for example while it is replaced."""
    try:
        return client.get("/admin/status", SystemStatus)
    except CommandFailed as exc:
        note(str(exc))
        return before
