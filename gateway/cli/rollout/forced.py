"""`lorry rollout force`: hold a conversation on one side, to try a canary before or beside its traffic."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli.client import Client
from gateway.cli.output import JsonFlag, ago, out, show_json, show_table


def force(
    name: Annotated[str, typer.Argument(help="Adapter.")],
    key: Annotated[
        str | None, typer.Option("--key", help="What the caller sends as x-session-id or `user`; or api-key:NAME.")
    ] = None,
    side: Annotated[str | None, typer.Option("--side", help="canary or stable")] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Let the key go where its hash says.")] = False,
    list_all: Annotated[bool, typer.Option("--list", help="List the keys that are held.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Hold the conversations of a key on a side of every rollout; what they come to is no evidence."""
    asked = sum((clear, list_all, side is not None))
    if asked != 1 or (key is None) != list_all:
        raise typer.BadParameter("give --key K --side canary|stable, or --key K --clear, or --list")
    if side not in (None, "canary", "stable"):
        raise typer.BadParameter(f"--side {side!r}: write canary or stable")
    client, path = Client(), f"/admin/adapters/{name}/forced"
    if list_all:
        held = client.get(path)["data"]
        if as_json:
            show_json(held)
            return
        rows = ((each["sticky_key"], each["side"], each["actor"], ago(each["created_at"])) for each in held)
        show_table(("KEY", "SIDE", "BY", "SINCE"), rows, f"No key of {name} is held.")
        return
    told = client.delete(path, sticky_key=key) if clear else client.put(path, {"sticky_key": key, "side": side})
    if as_json:
        show_json(told)
    else:
        out.print(f"{key} goes where its hash says." if clear else f"{key} is held on {side}.")
