"""`lorry export`: take a model out of Lorry, as a folder, for a hub, as GGUF, for Ollama."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.client import Client
from gateway.cli.completion import names
from gateway.cli.errors import CommandFailed
from gateway.cli.models.export_target import Form, Target, parse_target
from gateway.cli.models.fetching import fetch_config, fetch_model, show_export
from gateway.cli.models.merge import followed, start_merge
from gateway.cli.output import JsonFlag, note, show_fields, show_json
from gateway.cli.short_ids import revision_of_digest
from gateway.objects.weights.exports import ExportObject, UploadNote

if TYPE_CHECKING:
    from exports.bundles import Exported

app = typer.Typer()

_SCRATCH = ".lorry-export-"


@app.command("export")
def export(
    name: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A revision, a checkpoint or a base model.", autocompletion=names.exportable
        ),
    ],
    to: Annotated[
        str,
        typer.Option(
            "--to", metavar="TARGET", help="DIR, hf:ORG/NAME, modelscope:ORG/NAME, gguf[:FILE], ollama[:DIR]."
        ),
    ],
    merged: Annotated[bool, typer.Option("--merged", help="Merge the adapter into its base model first.")] = False,
    kind: Annotated[
        str | None,
        typer.Option(
            "--type", metavar="TYPE", help="Type of GGUF: f16 (the default), bf16, f32, q8_0, q5_1, q5_0, q4_1, q4_0."
        ),
    ] = None,
    base_model: Annotated[
        str | None,
        typer.Option("--base-model", metavar="ID", help="Id of the base model on a hub, for the model card."),
    ] = None,
    revision: Annotated[
        str | None, typer.Option("--revision", metavar="BRANCH", help="Branch of the hub; main or master if left out.")
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="Make a new repository public; private if left out.")
    ] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check/--no-check", help="Read back what was written, and compare; needs the model's memory twice."
        ),
    ] = True,
    with_fingerprint: Annotated[
        bool, typer.Option("--with-fingerprint", help="Keep fingerprint.json, which has prompts of the training data.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Export a model with a card made of its lineage. The written bytes are read back and compared."""
    target = parse_target(to, name, kind, revision=revision, public=public)
    target.check()
    with Client(flags={"name": "MODEL", "model": "MODEL"}) as client:
        model = show_export(client, revision_of_digest(client, name) or name)
        if merged:
            model = _merged(client, model)
        with _scratch(target) as scratch:
            exported = _fetched(client, model, target, scratch, checks=check, base_model=base_model)
            done = _written(target, _with(exported, with_fingerprint), scratch)
        if target.hub is not None:
            _note_upload(client, model, target, done)
    _show(model, target, done, as_json)


def _merged(client: Client, model: ExportObject) -> ExportObject:
    if model.kind != "adapter":
        raise CommandFailed(f"--merged: {model.name} is a whole model already, no adapter")
    job = start_merge(client, model.name, None)
    note(f"Job {job.id} merges {model.name} into {model.base}; its checkpoint stays in the registry.")
    return show_export(client, str(followed(client, job).checkpoint))


@contextmanager
def _scratch(target: Target) -> Iterator[Path]:
    """Yield a folder on the disk of the target, which has to have room for the model anyway."""
    try:
        folder = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=target.place))
    except OSError as exc:
        raise CommandFailed(f"{target.place}: {exc.strerror}") from exc
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _fetched(
    client: Client, model: ExportObject, target: Target, scratch: Path, *, checks: bool, base_model: str | None
) -> Exported:
    from importlib.metadata import version

    from exports.bundles import Exported
    from exports.card import CardFacts, Origin, hub_id

    fetch_model(client, model, scratch / "model")
    base_folder = None
    if model.kind == "adapter":
        base_folder = scratch / "base"
        # The file of an adapter alone needs the base model's sizes, everything else its weights.
        if target.form is Form.OLLAMA or (checks and target.form is Form.FOLDER):
            fetch_model(client, show_export(client, str(model.base)), base_folder)
        else:
            fetch_config(client, str(model.base), base_folder)
    lineage = [Origin(**origin.model_dump()) for origin in model.lineage]
    known = None if model.kind == "base" else base_model or hub_id(lineage) or lineage[-1].name
    facts = CardFacts(
        title=target.title or model.name,
        kind=model.kind,
        form="folder" if target.form is Form.FOLDER else str(target.kind),
        base_model=known,
        lineage=lineage,
        version=version("lorry"),
    )
    return Exported(
        folder=scratch / "model",
        digests={file.path: file.sha256 for file in model.files},
        base_folder=base_folder,
        checks=checks,
        with_fingerprint=False,
        facts=facts,
    )


def _with(exported: Exported, with_fingerprint: bool) -> Exported:
    from dataclasses import replace

    return replace(exported, with_fingerprint=with_fingerprint)


def _written(target: Target, exported: Exported, scratch: Path) -> dict[str, Any]:
    from exports.errors import ExportError

    try:
        return target.write(exported, scratch)
    except ExportError as exc:
        raise CommandFailed(str(exc)) from exc
    except OSError as exc:
        raise CommandFailed(f"{exc.filename or to_text(target)}: {exc.strerror or exc}") from exc


def to_text(target: Target) -> str:
    """Return the target as it was typed."""
    return target.text


def _note_upload(client: Client, model: ExportObject, target: Target, done: dict[str, Any]) -> None:
    body = {
        "model": model.name,
        "target": target.text,
        "commit": done["commit"],
        "revision": done["revision"],
        "form": "folder",
    }
    client.post("/admin/exports", UploadNote, body)


def _show(model: ExportObject, target: Target, done: dict[str, Any], as_json: bool) -> None:
    if as_json:
        show_json({"model": model.name, "digest": model.digest, "target": target.text, **done})
        return
    show_fields(
        [
            ("model", model.name),
            ("target", target.text),
            *((title, value) for title, value in done.items() if not isinstance(value, list)),
        ]
    )
    for remark in done.get("remarks", []):
        note(remark)
