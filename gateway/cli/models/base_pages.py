"""Base models as a table and as a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gateway.cli.models.origin import origin_fields
from gateway.cli.output import Column, moment, moments, short_digests, show_fields, show_table
from gateway.objects.bases import BaseModelObject, BaseModelOrigin

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


def show_bases(bases: Sequence[BaseModelObject], *, wide: bool) -> None:
    """Print the table of base models."""
    rows = ((b.name, _from(b), _answers(b), b.replicas, _users(b), b.digest, b.created_at, b.licence) for b in bases)
    show_table(COLUMNS, rows, "No base models.", wide=wide)


def show_base(base: BaseModelOrigin) -> None:
    """Print one base model with what made it, or where it was pulled from."""
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
            *origin_fields({name: fact for name, fact in base.provenance.items() if name != "files"}),
            *_file_fields(base),
        ]
    )


def _file_fields(base: BaseModelOrigin) -> list[tuple[str, str]]:
    """Return a field for each file of a pulled model."""
    files = base.provenance.get("files")
    if base.hub is None or not isinstance(files, dict):
        return []
    return [
        ("file", f"{path}, {facts['size_bytes']:,} bytes, sha256 {facts['sha256']}")
        for path, facts in files.items()
        if isinstance(facts, dict)
    ]


def _from(base: BaseModelObject) -> str | None:
    return base.parent if base.hub is None else f"{base.hub.hub} {base.hub.commit[:12]}"


def _answers(base: BaseModelObject) -> str:
    return ", ".join(name for path, name in ANSWERS.items() if path in base.paths)


def _users(base: BaseModelObject) -> str:
    return "all" if base.shared else str(base.tenant)
