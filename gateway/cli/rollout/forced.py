"""`lorry rollout force`: hold a conversation on one side of the rollouts, for example to try a canary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import typer

from gateway.cli.client import Client, part
from gateway.cli.completion.arguments import AdapterName
from gateway.cli.output import Column, JsonFlag, WideFlag, moments, show, show_json, show_table
from gateway.objects.evidence import ForcedSideObject, ReleasedSide
from gateway.objects.lists import ApiObject, ObjectList

COLUMNS: Final = (
    Column("SIDE"),
    Column("BY", 2),
    Column("SINCE", 1, moments),
    Column("KEY", below=True),
)


def force(
    name: AdapterName,
    key: Annotated[
        str | None,
        typer.Option(
            "--key", metavar="KEY", help="Value that the caller sends as x-session-id or `user`; or api-key:NAME."
        ),
    ] = None,
    side: Annotated[
        str | None, typer.Option("--side", metavar="canary|stable", help="Where its conversations go.")
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Remove the override.")] = False,
    list_all: Annotated[bool, typer.Option("--list", help="List the overrides.")] = False,
    wide: WideFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Override the side of a key: pin its conversations to canary or stable. They do not count as evidence."""
    asked = sum((clear, list_all, side is not None))
    if asked != 1 or (key is None) != list_all:
        raise typer.BadParameter("give --key K --side canary|stable, or --key K --clear, or --list")
    if side not in (None, "canary", "stable"):
        raise typer.BadParameter(f"--side {side!r}: write canary or stable")
    path = f"/admin/adapters/{part(name)}/forced"
    with Client() as client:
        if list_all:
            _show_held(name, client.get(path, ObjectList[ForcedSideObject]).data, wide, as_json)
        elif clear:
            released = client.delete(path, ReleasedSide, sticky_key=key)
            _show_change(released, f"The override of {key} is removed.", as_json)
        else:
            held = client.put(path, ForcedSideObject, {"sticky_key": key, "side": side})
            _show_change(held, f"{key} is pinned to {side}.", as_json)


def _show_held(name: str, held: Sequence[ForcedSideObject], wide: bool, as_json: bool) -> None:
    if as_json:
        show_json(held)
        return
    rows = ((each.side, each.actor, each.created_at, each.sticky_key) for each in held)
    show_table(COLUMNS, rows, f"{name} has no overrides.", wide=wide)


def _show_change(changed: ApiObject, sentence: str, as_json: bool) -> None:
    if as_json:
        show_json(changed)
    else:
        show(sentence)
