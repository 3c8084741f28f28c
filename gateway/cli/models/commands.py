"""`lorry models`: every name that a request may carry, the base models among them, and models from hubs."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from gateway.cli.client import Client, part
from gateway.cli.completion.arguments import BaseName, ModelName
from gateway.cli.errors import CommandFailed
from gateway.cli.models.base_pages import show_base, show_bases
from gateway.cli.models.load_test_rows import TRIED, tried_row
from gateway.cli.output import (
    Column,
    JsonFlag,
    WideFlag,
    moment,
    moments,
    note,
    show,
    show_fields,
    show_json,
    show_table,
)
from gateway.objects.bases import BaseModelObject, BaseModelOrigin, RemovedBaseModel
from gateway.objects.lists import ObjectList
from gateway.objects.models import ModelObject
from registry.contracts.quantizations.load_test_result import LoadTestOutcome, LoadTestResult

app = typer.Typer(name="models", no_args_is_help=True)

COLUMNS: Final = (
    Column("MODEL"),
    Column("KIND", 1),
    Column("BASE", 3),
    Column("CREATED", 4, moments),
    Column("ABOUT", 2, below=True),
)
HomeFlag = Annotated[
    bool, typer.Option("--home", help="Not through a gateway but directly in the registry of LORRY_HOME.")
]
HubId = Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Id of the model on the hub; @REVISION may follow.")]
HubFlag = Annotated[
    str | None,
    typer.Option(metavar="HUB", help="huggingface or modelscope (default: settings [models] hub)."),
]


@app.command("list")
def list_models(
    bases: Annotated[
        bool, typer.Option("--bases", help="Base models only, with where they come from; needs the scope admin.")
    ] = False,
    home: HomeFlag = False,
    wide: WideFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """List the names that `model` may have in a request; --home lists the base models of this machine's registry."""
    if bases or home:
        found: list[BaseModelObject] = _at_home().bases() if home else _bases()
        if as_json:
            show_json(found)
        else:
            show_bases(found, wide=wide)
        return
    with Client() as client:
        models = client.get("/v1/models", ObjectList[ModelObject]).data
    if as_json:
        show_json(models)
        return
    rows = ((m.id, m.lorry.kind, m.lorry.base_name, m.created, m.lorry.summary) for m in models)
    show_table(COLUMNS, rows, "No models.", wide=wide)


@app.command("show")
def show_model(name: ModelName, home: HomeFlag = False, as_json: JsonFlag = False) -> None:
    """Show one model: of a base model also what made it, or where it was pulled from, with every file."""
    found = _at_home().origin(name) if home else _shown(name)
    if as_json:
        show_json(found)
    elif isinstance(found, BaseModelOrigin):
        show_base(found)
    else:
        facts = [("model", found.id), ("owner", found.owned_by), ("created", moment(found.created))]
        show_fields([*facts, *(_fact(field, value) for field, value in found.lorry)])


@app.command("pull")
def pull_model(
    model: HubId,
    revision: Annotated[
        str | None, typer.Option(metavar="REVISION", help="Branch, tag or commit (default: the default branch).")
    ] = None,
    hub: HubFlag = None,
    as_json: JsonFlag = False,
) -> None:
    """Fetch a model from a hub to this machine, pinned to its commit and checked by its hashes. Needs no gateway.

    A pull that was ended goes on where it ended. HF_TOKEN and MODELSCOPE_API_TOKEN open models that are not public,
    HF_ENDPOINT and MODELSCOPE_ENDPOINT name a mirror.
    """
    pulled = _at_home().pull(model, revision, hub)
    if as_json:
        show_json(pulled)
        return
    assert pulled.hub is not None  # noqa: S101 - it was pulled just now
    show(f"{pulled.name} is here: commit {pulled.hub.commit}, digest {pulled.digest}, licence {pulled.licence}")
    note(f"Serve it: lorry up --model {pulled.name}")


@app.command("verify")
def verify_model(name: BaseName, as_json: JsonFlag = False) -> None:
    """Hash the files of a pulled model of this machine again and compare them with its record. Needs no gateway.

    Exit code 1 where a file is changed, missing or added.
    """
    verified = _at_home().verify(name)
    odd = [file for file in verified.files if file.state != "ok"]
    if as_json:
        show_json(verified)
    else:
        for file in odd:
            show(f"{file.path}: {file.state}", style="red")
        if not odd:
            show(f"{verified.name}: all {len(verified.files)} files are as they were pulled, digest {verified.digest}")
    if odd:
        raise CommandFailed(
            f"{verified.name}: {len(odd)} of {len(verified.files)} files differ from the record; "
            f"remove it and pull it again: lorry models remove {verified.name}"
        )


@app.command("try")
def try_model(
    name: BaseName,
    kinds: Annotated[
        list[str] | None,
        typer.Option("--kind", metavar="KIND", help="Kind of engine; repeatable (default: those of the pools)."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Start engines of this machine with a checkpoint, and compare answers with those of what it was made from.

    Each result is recorded in the checkpoint's provenance, also that a kind of engine refuses it. Needs no gateway.
    Exit code 1 where a kind does not serve it.
    """
    if not as_json:
        note(f"Starting engines with {name}; each takes up to a minute")
    found: list[LoadTestResult] = list(_at_home().load_tests(name, kinds or ()))
    if as_json:
        show_json([each.model_dump(mode="json") for each in found])
    else:
        show_table(TRIED, map(tried_row, found), "No kind of engine.")
    if refused := [each.kind for each in found if each.outcome is not LoadTestOutcome.SERVED]:
        raise CommandFailed(f"{name} is not served by {', '.join(refused)}")


@app.command("remove")
def remove_model(name: BaseName, home: HomeFlag = False, as_json: JsonFlag = False) -> None:
    """Delete a pulled model, or a checkpoint that a job made, with its files; refused while anything uses it."""
    if home:
        removed = _at_home().remove(name)
    else:
        with Client() as client:
            removed = client.delete(f"/admin/bases/{part(name)}", RemovedBaseModel)
    if as_json:
        show_json(removed)
        return
    show(f"{removed.name} is deleted")


def _shown(name: str) -> ModelObject | BaseModelOrigin:
    with Client() as client:
        model = client.get(f"/v1/models/{part(name)}", ModelObject)
        if model.lorry.kind != "base":
            return model
        try:
            return client.get(f"/admin/bases/{part(model.id)}", BaseModelOrigin)
        except CommandFailed as exc:
            note(f"What every key sees of it: {exc}")
            return model


def _bases() -> list[BaseModelObject]:
    with Client() as client:
        return client.get("/admin/bases", ObjectList[BaseModelObject]).data


def _at_home() -> Any:
    from gateway.cli.models import at_home  # the database and the hubs, which other commands do not need

    return at_home


def _fact(name: str, value: Any) -> tuple[str, Any]:
    return name.removesuffix("_at").replace("_", " "), moment(value) if name.endswith("_at") else value
