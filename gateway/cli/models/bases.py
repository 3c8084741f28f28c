"""`lorry bases`: list and show base models, delete a checkpoint."""

from __future__ import annotations

from typing import Final

import typer

from gateway.cli.client import Client, part
from gateway.cli.completion.arguments import BaseName
from gateway.cli.models.origin import origin_fields
from gateway.cli.output import (
    Column,
    JsonFlag,
    WideFlag,
    moment,
    moments,
    short_digests,
    show,
    show_fields,
    show_json,
    show_table,
)
from gateway.objects.bases import BaseModelObject, BaseModelOrigin, RemovedBaseModel
from gateway.objects.lists import ObjectList

app = typer.Typer(name="bases", no_args_is_help=True)

COLUMNS: Final = (
    Column("BASE"),
    Column("FROM", 3),
    Column("ANSWERS", 2),
    Column("REPLICAS", 1),
    Column("TENANT", 2),
    Column("DIGEST", 6, short_digests),
    Column("CREATED", 4, moments),
    Column("LICENCE", 5),
)
ANSWERS: Final = {
    "/v1/chat/completions": "chats",
    "/v1/embeddings": "embeddings",
    "/v1/rerank": "ranks",
    "/v1/audio/transcriptions": "transcriptions",
}
"""Path of a request -> how the table names it."""


@app.command("list")
def list_bases(wide: WideFlag = False, as_json: JsonFlag = False) -> None:
    """List base models with what they were made from and how many replicas serve them."""
    with Client() as client:
        bases = client.get("/admin/bases", ObjectList[BaseModelObject]).data
    if as_json:
        show_json(bases)
        return
    rows = ((b.name, b.parent, _answers(b), b.replicas, _users(b), b.digest, b.created_at, b.licence) for b in bases)
    show_table(COLUMNS, rows, "No base models.", wide=wide)


@app.command("show")
def show_base(name: BaseName, as_json: JsonFlag = False) -> None:
    """Show one base model and, for a checkpoint, what made it."""
    with Client() as client:
        base = client.get(f"/admin/bases/{part(name)}", BaseModelOrigin)
    if as_json:
        show_json(base)
        return
    show_fields(
        [
            ("base", base.name),
            ("from", base.parent),
            ("job", base.job_id),
            ("step", base.step),
            ("also named", base.alias),
            ("deleted", None if base.expires_at is None else f"{moment(base.expires_at)} unless it is in use"),
            ("owner", base.owner),
            ("used by", "every key" if base.shared else f"tenant {base.tenant}"),
            ("licence", base.licence),
            ("digest", base.digest),
            ("path", base.path),
            ("created", moment(base.created_at)),
            ("replicas", f"ready on {base.replicas}"),
            ("answers", ", ".join(base.paths)),
            ("adapters", ", ".join(base.adapters)),
            *origin_fields(base.provenance),
        ]
    )


@app.command("delete")
def delete(name: BaseName, as_json: JsonFlag = False) -> None:
    """Delete a checkpoint and its weights, where no replica, adapter or job uses it."""
    with Client() as client:
        removed = client.delete(f"/admin/bases/{part(name)}", RemovedBaseModel)
    if as_json:
        show_json(removed)
        return
    show(f"{removed.name} is deleted")


def _answers(base: BaseModelObject) -> str:
    return ", ".join(name for path, name in ANSWERS.items() if path in base.paths)


def _users(base: BaseModelObject) -> str:
    return "all" if base.shared else str(base.tenant)
