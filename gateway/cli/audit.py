"""`lorry audit`: the log of who did what."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Final

import typer
from pydantic import JsonValue

from gateway.cli.client import Client
from gateway.cli.output import Column, JsonFlag, WideFlag, clock_times, show_json, show_table
from gateway.objects.lists import ObjectList
from gateway.objects.operations import AuditEntryObject

app = typer.Typer()

COLUMNS: Final = (
    Column("TIME", 0, clock_times),
    Column("ACTION"),
    Column("BY", 0, below=True),
    Column("SUBJECT", 1, below=True),
    Column("DETAIL", 2, below=True),
)


@app.command("audit")
def list_audit(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Number of entries.")] = 50,
    wide: WideFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """List what was done by whom, newest first."""
    with Client() as client:
        entries = client.get("/admin/audit", ObjectList[AuditEntryObject], limit=limit).data
    if as_json:
        show_json(entries)
        return
    rows = ((e.at, e.action, e.actor, e.subject, _facts(e.detail)) for e in entries)
    show_table(COLUMNS, rows, "Nothing was done yet.", wide=wide)


def _facts(detail: Mapping[str, JsonValue]) -> str:
    """Return `base tiny, job ftjob-1`, without empty facts."""
    return ", ".join(f"{key} {_text(value)}" for key, value in detail.items() if value not in (None, "", [], {}))


def _text(value: JsonValue) -> str:
    return value if isinstance(value, str) else json.dumps(value)
