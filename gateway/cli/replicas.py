"""`lorry replicas`: the inference servers and what they have loaded; enter an engine by hand, remove it again."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from gateway.cli.client import Client, part
from gateway.cli.completion import names
from gateway.cli.completion.arguments import ReplicaId
from gateway.cli.output import Column, JsonFlag, WideFlag, moments, show, show_json, show_table
from gateway.objects.lists import ObjectList
from gateway.objects.operations import EnteredEngineObject, NamedSlot, RemovedEngine, ReplicaObject
from registry.states import SlotState

app = typer.Typer(name="replicas", invoke_without_command=True)

COLUMNS: Final = (
    Column("REPLICA"),
    Column("STATE"),
    Column("LOAD", 1),
    Column("LAST SEEN", 2, moments),
    Column("POOL", 5),
    Column("BASE", 4),
    Column("ADAPTERS", 3),
    Column("MESSAGE", below=True),
)


@app.callback()
def replicas(context: typer.Context, wide: WideFlag = False, as_json: JsonFlag = False) -> None:
    """List replicas with their adapters."""
    if context.invoked_subcommand is None:
        list_replicas(wide, as_json)


@app.command("list")
def list_replicas(wide: WideFlag = False, as_json: JsonFlag = False) -> None:
    """List replicas with their adapters."""
    with Client() as client:
        found = client.get("/admin/replicas", ObjectList[ReplicaObject]).data
    if as_json:
        show_json(found)
        return
    rows = (
        (
            replica.id,
            replica.state,
            f"{replica.load}/{replica.room or '?'}",
            replica.heartbeat_at,
            replica.pool,
            replica.base,
            ",".join(_slot(slot) for slot in replica.slots),
            replica.message,
        )
        for replica in found
    )
    show_table(COLUMNS, rows, "No replicas.", wide=wide)


def _slot(slot: NamedSlot) -> str:
    return slot.served_name if slot.state is SlotState.READY else f"{slot.served_name}:{slot.reason or slot.state}"


@app.command("add")
def add(
    url: Annotated[str, typer.Argument(metavar="URL", help="http://host:port of a running server.")],
    engine: Annotated[
        str, typer.Option(metavar="KIND", help="Kind of the engine: transformers, vllm, sglang or lmdeploy.")
    ],
    base: Annotated[
        str,
        typer.Option(
            metavar="BASE",
            help="Name of its base model, as `lorry models list` shows it.",
            autocompletion=names.bases,
        ),
    ],
    capacity: Annotated[
        int | None, typer.Option(min=0, help="How many adapters the engine can hold (default 16).")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Add an engine that was started elsewhere; it gets requests once its adapters are proven."""
    body = {"url": url, "engine": engine, "base": base} | ({} if capacity is None else {"capacity": capacity})
    with Client(flags={"url": "URL", "engine": "--engine", "base": "--base", "capacity": "--capacity"}) as client:
        entered = client.post("/admin/replicas", EnteredEngineObject, body)
    if as_json:
        show_json(entered)
    else:
        show(f"{entered.id} is added; `lorry replicas` shows when it is ready")


@app.command("remove")
def remove(replica: ReplicaId, as_json: JsonFlag = False) -> None:
    """Remove an engine that was added by hand: it is drained, and the server itself keeps running."""
    with Client() as client:
        removed = client.delete(f"/admin/replicas/{part(replica)}", RemovedEngine)
    if as_json:
        show_json(removed)
    else:
        show(f"{replica} is being drained and removed")
