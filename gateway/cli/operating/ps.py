"""`lorry ps`: the inference servers, one line each, as `ps` lists processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import typer

from gateway.cli.client import Client
from gateway.cli.output import Column, JsonFlag, WideFlag, moments, show_json, show_table
from gateway.cli.tables.forms import Reader, plain
from gateway.objects.lists import ObjectList
from gateway.objects.operations import ReplicaObject
from registry.states import SlotState

app = typer.Typer()


def sizes(values: Sequence[Any], reader: Reader) -> list[str]:
    """Write bytes: `812MB` or `1.4GB` for people, the number for programs."""
    if reader is Reader.PROGRAM:
        return plain(values, reader)
    return plain([value if value is None else _size_text(value) for value in values], reader)


def _size_text(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.1f}GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.0f}MB"


COLUMNS: Final = (
    Column("REPLICA"),
    Column("STATE"),
    Column("ENGINE", 4),
    Column("BASE", 3),
    Column("PROVEN"),
    Column("REQUESTS"),
    Column("MEMORY", 1, sizes),
    Column("SINCE", 2, moments),
    Column("POOL", 5),
)


@app.command("ps")
def list_processes(wide: WideFlag = False, as_json: JsonFlag = False) -> None:
    """List the inference servers: adapters, requests in flight, memory, and since when each runs.

    PROVEN is how many of the server's adapters answer as their trainer saw them, of those that it has or loads.
    REQUESTS run or wait there. MEMORY is what its processes have resident, without that of GPUs. `lorry replicas` has
    the adapters by name, and the message of a server that is not ready.
    """
    with Client() as client:
        found = client.get("/admin/replicas", ObjectList[ReplicaObject]).data
    if as_json:
        show_json(found)
        return
    rows = (
        (
            replica.id,
            replica.state,
            replica.engine,
            replica.base,
            f"{sum(slot.state is SlotState.READY for slot in replica.slots)}/{len(replica.slots)}",
            replica.load,
            replica.memory_bytes,
            replica.started_at,
            replica.pool or "by hand",
        )
        for replica in found
    )
    show_table(COLUMNS, rows, "No inference server runs here.", wide=wide)
