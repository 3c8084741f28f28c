"""`lorry audit`: the log of who did what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer
from pydantic import JsonValue

from gateway.cli.client import Client
from gateway.cli.output import JsonFlag, ago, show_json, show_table
from gateway.objects.lists import ObjectList
from gateway.objects.operations import AuditEntryObject

app = typer.Typer()


@app.command("audit")
def list_audit(limit: Annotated[int, typer.Option(min=1, max=1000)] = 50, as_json: JsonFlag = False) -> None:
    """List what was done by whom, newest first."""
    with Client() as client:
        entries = client.get("/admin/audit", ObjectList[AuditEntryObject], limit=limit).data
    if as_json:
        show_json(entries)
        return
    rows = ((ago(e.at), e.actor, e.action, e.subject, _facts(e.detail)) for e in entries)
    show_table(("WHEN", "BY", "ACTION", "SUBJECT", "DETAIL"), rows, "Nothing yet.")


def _facts(detail: Mapping[str, JsonValue]) -> str:
    """Return `base tiny, job ftjob-1`, without empty facts and with digests cut short."""
    return ", ".join(f"{key} {str(value)[:28]}" for key, value in detail.items() if value not in (None, ""))
