"""`lorry rollout status NAME --watch`: show a rollout until it has ended."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Final

import typer
from rich.text import Text

from gateway.cli.client import Client
from gateway.cli.errors import CommandFailed
from gateway.cli.following.live_line import REPEAT_S
from gateway.cli.output import screen_of, stdout_console
from gateway.cli.rollout.page import changes_of, line_of, page
from gateway.objects.rollouts import RolloutStory
from registry.rollouts.rollout_state import RolloutState

POLL_S: Final = 0.5
PATIENCE_S: Final = 30.0
"""How long the gateway may not answer, for example while it is replaced."""


def watch(client: Client, rollout_id: str, as_json: bool) -> None:
    """Show the rollout until it has ended, and exit with code 1 if it was aborted.

    A terminal gets a page that is kept up to date, everything else one line for each change and every `REPEAT_S`.
    """
    console = stdout_console()
    state = RolloutState.PENDING
    if as_json or not console.is_terminal:
        for rollout in changes(client, rollout_id, float("inf") if as_json else REPEAT_S):
            state = rollout.state
            typer.echo(json.dumps(rollout.model_dump(mode="json")) if as_json else line_of(rollout))
    else:
        from rich.live import Live

        with Live(console=console, auto_refresh=False) as live:
            for rollout, notice in readings(client, rollout_id):
                state = rollout.state
                live.update(Text("\n").join(page(rollout, screen_of(), notice)), refresh=True)
    if state is RolloutState.ABORTED:
        raise typer.Exit(1)


def changes(client: Client, rollout_id: str, repeat_s: float = float("inf")) -> Iterator[RolloutStory]:
    """Yield the rollout as it is, and again each time that it has changed or *repeat_s* passed, until it has ended."""
    before, yielded_at = None, 0.0
    for rollout, _ in readings(client, rollout_id):
        if changes_of(rollout) != before or time.monotonic() - yielded_at >= repeat_s:
            before, yielded_at = changes_of(rollout), time.monotonic()
            yield rollout


def readings(client: Client, rollout_id: str) -> Iterator[tuple[RolloutStory, str]]:
    """Yield the rollout every `POLL_S` until it has ended, with a notice when the gateway has stopped answering."""
    rollout = client.get(f"/admin/rollouts/{rollout_id}", RolloutStory)
    read_at = time.monotonic()
    while True:
        age_s = time.monotonic() - read_at
        yield rollout, f"the gateway has not answered for {age_s:.0f} s" if age_s > 2 * POLL_S else ""
        if rollout.state.is_terminal:
            return
        time.sleep(POLL_S)
        try:
            rollout = client.get(f"/admin/rollouts/{rollout_id}", RolloutStory)
            read_at = time.monotonic()
        except CommandFailed:
            if time.monotonic() - read_at > PATIENCE_S:
                raise
