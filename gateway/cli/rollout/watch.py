"""`lorry rollout status NAME --watch`: stays until the rollout has ended."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any, Final

import typer
from rich.live import Live

from gateway.cli.client import Client
from gateway.cli.errors import CommandFailed
from gateway.cli.output import out
from gateway.cli.rollout.page import changes_of, line_of, page

POLL_S: Final = 0.5
PATIENCE_S: Final = 30.0
"""How long the gateway may be away, for example while it is replaced."""


def watch(client: Client, rollout_id: str, as_json: bool) -> None:
    """Show it until it has ended: a live page in a terminal, else a line for each change. Exit code 1 if aborted."""
    rollout: dict[str, Any] = {}
    if as_json or not out.is_terminal:
        for rollout in changes(client, rollout_id):
            typer.echo(json.dumps(rollout) if as_json else line_of(rollout))
    else:
        with Live(console=out, auto_refresh=False) as live:
            for rollout, notice in looks(client, rollout_id):
                live.update(page(rollout, notice), refresh=True)
    if rollout["state"] == "aborted":
        raise typer.Exit(1)


def changes(client: Client, rollout_id: str) -> Iterator[dict[str, Any]]:
    """The rollout each time that it changed, and at first."""
    before = None
    for rollout, _ in looks(client, rollout_id):
        if changes_of(rollout) != before:
            before = changes_of(rollout)
            yield rollout


def looks(client: Client, rollout_id: str) -> Iterator[tuple[dict[str, Any], str]]:
    """The rollout again and again until it has ended, with a word when what is shown is old."""
    rollout: dict[str, Any] = client.get(f"/admin/rollouts/{rollout_id}")
    seen = time.monotonic()
    while True:
        age_s = time.monotonic() - seen
        yield rollout, f"the gateway has not answered for {age_s:.0f} s" if age_s > 2 * POLL_S else ""
        if rollout["state"] in ("promoted", "aborted"):
            return
        time.sleep(POLL_S)
        try:
            rollout = client.get(f"/admin/rollouts/{rollout_id}")
            seen = time.monotonic()
        except CommandFailed:
            if time.monotonic() - seen > PATIENCE_S:
                raise
