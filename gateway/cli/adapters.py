"""`lorry adapters`: list, show, publish a folder, retire a revision."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from gateway.cli.adapter_tar import AdapterTar
from gateway.cli.client import Client, part
from gateway.cli.completion import names
from gateway.cli.completion.arguments import AdapterName, PublishedName, RevisionName
from gateway.cli.errors import CommandFailed
from gateway.cli.following.job_progress import follow_job
from gateway.cli.jobs import show_job
from gateway.cli.models.origin import origin_fields
from gateway.cli.output import (
    Column,
    JsonFlag,
    WideFlag,
    moment,
    moments,
    note,
    numbers_of_revisions,
    short_digest,
    short_digests,
    show,
    show_fields,
    show_json,
    show_table,
)
from gateway.cli.short_ids import revision_named, revision_of_digest, split_name
from gateway.objects.adapters import AdapterHistory, AdapterObject, AdapterOwnerObject, RevisionObject, SlotObject
from gateway.objects.jobs import AnyJob, JobObject
from gateway.objects.lists import ObjectList
from gateway.objects.rollouts import RolloutObject
from registry.errors import AdapterRejected
from registry.jobs.job_state import JobState
from registry.publishing.adapter_files import left_out, list_names, top_names
from registry.publishing.adapter_name import check_adapter_name

app = typer.Typer(name="adapters", no_args_is_help=True)

ADAPTER_COLUMNS: Final = (
    Column("ADAPTER"),
    Column("STABLE", 1),
    Column("LATEST", 1),
    Column("ROLLOUT", 2, numbers_of_revisions),
    Column("BASE", 4),
    Column("CREATED", 3, moments),
    Column("TENANT", 5),
    Column("KIND", 6),
)
REVISION_COLUMNS: Final = (
    Column("REVISION"),
    Column("STATE", 1),
    Column("REPLICAS", 2),
    Column("CREATED", 3, moments),
    Column("RANK", 5),
    Column("ARTIFACT", 4, short_digests),
    Column("OWNER", 6),
)


@app.command("list")
def list_adapters(wide: WideFlag = False, as_json: JsonFlag = False) -> None:
    """List adapters with their stable revision and open rollout."""
    with Client() as client:
        adapters = client.get("/admin/adapters", ObjectList[AdapterObject]).data
    if as_json:
        show_json(adapters)
        return
    rows = ((a.name, a.stable, a.latest, _canary(a.rollout), a.base, a.created_at, _owner(a), a.kind) for a in adapters)
    empty = "No adapters yet; train one with `lorry train sft`, or publish a folder with `lorry adapters publish`."
    show_table(ADAPTER_COLUMNS, rows, empty, wide=wide)


@app.command("show")
def show_adapter(
    name: Annotated[
        str,
        typer.Argument(
            metavar="ADAPTER[@N]",
            help="An adapter, or one of its revisions.",
            autocompletion=names.adapters_and_revisions,
        ),
    ],
    wide: WideFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Show an adapter with its revisions, or one revision with what made it."""
    with Client() as client:
        adapter, number = _adapter_and_number(client, name)
    if number is None:
        _show_adapter(adapter, wide, as_json)
        return
    found = [revision for revision in adapter.revisions if revision.number == number]
    if not found:
        numbers = ", ".join(str(revision.number) for revision in adapter.revisions)
        raise CommandFailed(f"adapter {adapter.name} has no revision {number}; it has {numbers}")
    _show_revision(found[0], as_json)


def _adapter_and_number(client: Client, typed: str) -> tuple[AdapterHistory, int | None]:
    """Return the adapter that NAME, NAME@N or the beginning of a revision's digest names, and the revision's number."""
    adapter_name, number = split_name(typed)
    try:
        return client.get(f"/admin/adapters/{part(adapter_name)}", AdapterHistory), number
    except CommandFailed:
        if (revision := revision_of_digest(client, typed)) is None:
            raise
    adapter_name, number = split_name(revision)
    return client.get(f"/admin/adapters/{part(adapter_name)}", AdapterHistory), number


@app.command("publish")
def publish(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder with adapter_config.json and adapter_model.safetensors.")
    ],
    name: PublishedName,
    base: Annotated[
        str | None,
        typer.Option(
            metavar="BASE", help="Base model; needed only where there are several.", autocompletion=names.bases
        ),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Wait until the revision is published.")] = True,
    as_json: JsonFlag = False,
) -> None:
    """Publish an adapter folder as the next revision: it is checked at once, the trainer makes its fingerprint."""
    try:
        check_adapter_name(name)
        others = left_out(top_names(folder))
    except AdapterRejected as exc:
        raise CommandFailed(str(exc)) from exc
    if others and not as_json:  # the job's events have it too
        note(f"Left out, as serving does not need it: {list_names(others)}")
    with Client(flags={"base": "--base"}) as client, AdapterTar(folder, others) as tar:
        job = client.post_stream(
            f"/admin/adapters/{part(name)}/revisions", AnyJob, tar.chunks(), tar.size_bytes, base=base
        ).root
        if not follow:
            show_job(job, as_json)
            return
        note(f"Job {job.id} is queued; Ctrl-C leaves it running.")
        _show_published(client, follow_job(client, job.id), as_json)


def _show_published(client: Client, job: JobObject, as_json: bool) -> None:
    if job.status is not JobState.SUCCEEDED:
        why = job.error.message if job.error else f"it is {job.status}"
        raise CommandFailed(f"nothing was published by job {job.id}: {why}")
    published = job.lorry.revision
    revisions = client.get(f"/admin/adapters/{job.lorry.adapter}", AdapterHistory).revisions
    revision = next(revision for revision in revisions if revision.name == published)
    if as_json:
        show_json(revision)
        return
    show(f"Published {published} (rank {revision.rank}, artifact {short_digest(revision.artifact)})")
    if revision.number > 1:
        note(f"Next: lorry rollout start {revision.name} --steps 25,100")


@app.command("retire")
def retire(
    name: RevisionName,
    as_json: JsonFlag = False,
) -> None:
    """Stop serving a revision; its record stays."""
    with Client() as client:
        adapter_name, number = revision_named(client, name)
        revision = client.delete(f"/admin/adapters/{part(adapter_name)}/revisions/{number}", RevisionObject)
    if as_json:
        show_json(revision)
        return
    show(f"{revision.name} is {revision.state}")


@app.command("owner")
def change_owner(
    name: AdapterName,
    tenant: Annotated[str | None, typer.Option(metavar="TENANT", help="Tenant whose keys may train it.")] = None,
    shared: Annotated[
        bool | None, typer.Option("--shared/--private", help="Whether every key may use it, or its tenant alone.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Give an adapter to another tenant, open it to every key, or close it."""
    changes: dict[str, Any] = {"tenant": tenant, "shared": shared}
    body = {field: value for field, value in changes.items() if value is not None}
    if not body:
        raise typer.BadParameter("give --tenant NAME, --shared or --private")
    with Client(flags={"tenant": "--tenant"}) as client:
        owner = client.put(f"/admin/adapters/{part(name)}/owner", AdapterOwnerObject, body)
    if as_json:
        show_json(owner)
        return
    users = "every key may use it" if owner.shared else "only its tenant, and keys that name it, may use it"
    show(f"{owner.adapter} belongs to {owner.tenant}; {users}")


def slot_line(replica: str, slot: SlotObject) -> str:
    """Return where a revision stands in one replica, with the numbers that proved it there."""
    line = f"{replica}: {slot.state} {slot.message}".strip()
    proof = slot.proof
    if proof is None:
        return line
    verdict = "proven" if proof.passed else "not proven"
    effect = "no effect" if proof.separation is None else f"effect {proof.separation:.2f}"
    return (
        f"{line}, {verdict}: mean difference {proof.mean_difference:.2g} (tolerance {proof.tolerance:g}), "
        f"largest {proof.largest_difference:.2g}, {effect}, "
        f"{proof.compared} of {proof.recorded} tokens"
    )


def _named(adapter: str, number: int | None) -> str | None:
    return None if number is None else f"{adapter}@{number}"


def _rollout(rollout: RolloutObject | None) -> str | None:
    return f"{rollout.canary} {rollout.state} at {rollout.canary_weight} %" if rollout else None


def _canary(rollout: RolloutObject | None) -> str | None:
    return f"{rollout.canary}:{rollout.canary_weight}%" if rollout else None


def _owner(adapter: AdapterObject) -> str:
    return f"{adapter.tenant},shared" if adapter.shared else adapter.tenant


def _show_adapter(adapter: AdapterHistory, wide: bool, as_json: bool) -> None:
    if as_json:
        show_json(adapter)
        return
    show_fields(
        [
            ("adapter", adapter.name),
            ("kind", adapter.kind),
            ("base", adapter.base),
            ("stable", _named(adapter.name, adapter.stable)),
            ("previous stable", _named(adapter.name, adapter.previous_stable)),
            ("rollout", _rollout(adapter.rollout)),
            ("stable since", moment(adapter.stable_since)),
            ("created", moment(adapter.created_at)),
            ("tenant", _owner(adapter)),
        ]
    )
    rows = (
        (each.name, each.state, each.replicas, each.created_at, each.rank, each.artifact, each.owner)
        for each in adapter.revisions
    )
    show_table(REVISION_COLUMNS, rows, "No revisions.", wide=wide)


def _show_revision(revision: RevisionObject, as_json: bool) -> None:
    if as_json:
        show_json(revision)
        return
    show_fields(
        [
            ("revision", revision.name),
            ("state", revision.state),
            ("base", f"{revision.base} ({short_digest(revision.base_digest)})"),
            ("rank", revision.rank),
            ("target modules", ", ".join(revision.target_modules)),
            ("artifact", revision.artifact),
            ("model name", revision.alias),
            ("owner", revision.owner),
            ("created", moment(revision.created_at)),
            ("job", revision.job_id),
            *origin_fields(revision.provenance),
            ("replicas", f"ready on {revision.replicas}"),
            ("slots", "\n".join(slot_line(replica, slot) for replica, slot in revision.slots.items())),
        ]
    )
