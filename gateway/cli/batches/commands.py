"""`lorry batches`: create, list, show, cancel, download."""

from __future__ import annotations

import codecs
import json
import time
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from gateway.cli.client import Client, part
from gateway.cli.completion.arguments import BatchId
from gateway.cli.errors import CommandFailed
from gateway.cli.following.live_line import LiveLine
from gateway.cli.output import (
    Column,
    JsonFlag,
    WideFlag,
    moment,
    moments,
    note,
    short_ids,
    show_fields,
    show_json,
    show_table,
    stderr_console,
)
from gateway.cli.short_ids import whole_id
from gateway.objects.batches import BatchObject
from gateway.objects.files import FileObject
from gateway.objects.lists import ObjectPage

app = typer.Typer(name="batches", no_args_is_help=True)

COLUMNS: Final = (
    Column("BATCH", 0, short_ids),
    Column("STATE"),
    Column("DONE", 1),
    Column("FAILED", 2),
    Column("MODEL", 3),
    Column("ENDPOINT", 5),
    Column("CREATED", 4, moments),
    Column("OWNER", 6),
)
_FLAGS: Final = {"endpoint": "--endpoint", "metadata": "--metadata"}
"""Field of the request for a batch -> its flag."""
_POLL_S: Final = 0.5
_SHOWN_FAULTS: Final = 10


@app.command("create")
def create(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSONL file, one request a line.")],
    endpoint: Annotated[
        str | None, typer.Option(metavar="PATH", help="Path of the requests; default the url of the first line.")
    ] = None,
    metadata: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="A pair to find the batch by; repeat it for others.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Stay until the batch has ended.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Upload a file of requests and have them answered beside all others."""
    pairs = _pairs(metadata or [])
    try:
        content = file.read_bytes()
    except OSError as exc:
        raise CommandFailed(f"{file}: {exc.strerror}") from exc
    body: dict[str, Any] = {
        "endpoint": endpoint or _endpoint_in(content, file),
        "completion_window": "24h",
        "metadata": pairs or None,
    }
    with Client(flags=_FLAGS) as client:
        body["input_file_id"] = client.upload("/v1/files", FileObject, file.name, content, purpose="batch").id
        batch = client.post("/v1/batches", BatchObject, body)
        if follow:
            batch = _followed(client, batch)
    _show(batch, as_json)


@app.command("list")
def list_batches(
    limit: Annotated[int, typer.Option(min=1, max=100, help="Number of batches.")] = 20,
    wide: WideFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """List batches, newest first."""
    with Client() as client:
        batches = client.get("/v1/batches", ObjectPage[BatchObject], limit=limit).data
    if as_json:
        show_json(batches)
        return
    rows = (
        (
            batch.id,
            batch.status,
            f"{batch.request_counts.completed} of {batch.request_counts.total}",
            batch.request_counts.failed,
            batch.model,
            batch.endpoint,
            batch.created_at,
            batch.lorry.owner,
        )
        for batch in batches
    )
    show_table(COLUMNS, rows, "No batches yet; make one with `lorry batches create FILE`.", wide=wide)


@app.command("show")
def show_one(batch_id: BatchId, as_json: JsonFlag = False) -> None:
    """Show one batch, and how far it is."""
    with Client() as client:
        batch = _found(client, batch_id)
    _show(batch, as_json)


@app.command("cancel")
def cancel(batch_id: BatchId, as_json: JsonFlag = False) -> None:
    """Cancel a batch; its output file has what was answered already."""
    with Client() as client:
        whole = part(whole_id(client, "batch", batch_id))
        batch = client.post(f"/v1/batches/{whole}/cancel", BatchObject)
    _show(batch, as_json)


@app.command("download")
def download(
    batch_id: BatchId,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write to this file, not to standard output.")
    ] = None,
    errors: Annotated[bool, typer.Option("--errors", help="The file of the requests that failed.")] = False,
) -> None:
    """Print the answers of a batch that has ended, one line of JSON each."""
    with Client() as client:
        batch = _found(client, batch_id)
        file_id = batch.error_file_id if errors else batch.output_file_id
        if file_id is None:
            raise CommandFailed(_why_no_file(batch, errors))
        chunks = client.download(f"/v1/files/{part(file_id)}/content")
        if output is None:
            for text in codecs.iterdecode(chunks, "utf-8"):
                typer.echo(text, nl=False)
            return
        try:
            with output.open("wb") as file:
                file.writelines(chunks)
        except OSError as exc:
            raise CommandFailed(f"{output}: {exc.strerror}") from exc
    note(f"{output} has {batch.request_counts.failed if errors else batch.request_counts.completed} lines")


def _found(client: Client, batch_id: str) -> BatchObject:
    return client.get(f"/v1/batches/{part(whole_id(client, 'batch', batch_id))}", BatchObject)


def _why_no_file(batch: BatchObject, errors: bool) -> str:
    if not batch.status.is_terminal:
        return f"{batch.id} is {batch.status}: its files are made when it has ended"
    if errors:
        return f"{batch.id} has no error file: no request failed"
    reason = f": {batch.errors.data[0].message}" if batch.errors is not None else ""
    hint = "; its error file says why, `--errors`" if batch.error_file_id is not None else ""
    return f"{batch.id} has no answers, it is {batch.status}{reason}{hint}"


def _endpoint_in(content: bytes, file: Path) -> str:
    """Return the `url` of the first request."""
    first = next((line for line in content.splitlines() if line.strip()), b"")
    try:
        url = json.loads(first.removeprefix(b"\xef\xbb\xbf"))["url"]
    except (ValueError, KeyError, TypeError) as exc:
        raise CommandFailed(f"{file}: the first line has no url; name the path of the requests by --endpoint") from exc
    return str(url)


def _pairs(words: list[str]) -> dict[str, str]:
    pairs = dict(word.partition("=")[::2] for word in words)
    if wrong := next((word for word in words if "=" not in word), None):
        raise typer.BadParameter(f"{wrong!r} is not KEY=VALUE")
    return pairs


def _followed(client: Client, batch: BatchObject) -> BatchObject:
    """Show how far the batch is until it has ended."""
    with LiveLine(stderr_console()) as line:
        while not batch.status.is_terminal:
            counts = batch.request_counts
            done = counts.completed + counts.failed
            detail = f", {done} of {counts.total} done, {counts.failed} failed" if counts.total else ""
            waits = f"; waits: {batch.lorry.waits_for}" if batch.lorry.waits_for else ""
            line.show(str(batch.status), detail + waits, done / counts.total if counts.total else None)
            time.sleep(_POLL_S)
            batch = client.get(f"/v1/batches/{part(batch.id)}", BatchObject)
    return batch


def _show(batch: BatchObject, as_json: bool) -> None:
    if as_json:
        show_json(batch)
        return
    counts, faults = batch.request_counts, [] if batch.errors is None else batch.errors.data
    show_fields(
        [
            ("batch", batch.id),
            ("state", batch.status),
            ("endpoint", batch.endpoint),
            ("model", batch.model),
            ("requests", f"{counts.completed} of {counts.total} answered, {counts.failed} failed"),
            ("tokens", f"{batch.usage.input_tokens} read, {batch.usage.output_tokens} written"),
            ("waits for", batch.lorry.waits_for),
            ("run by", batch.lorry.gateway),
            ("attempt", batch.lorry.attempt if batch.lorry.attempt > 1 else None),
            ("owner", batch.lorry.owner),
            ("created", moment(batch.created_at)),
            ("expires", None if batch.status.is_terminal else moment(batch.expires_at)),
            ("ended", moment(batch.completed_at or batch.failed_at or batch.expired_at or batch.cancelled_at)),
            ("metadata", ", ".join(f"{key}={value}" for key, value in (batch.metadata or {}).items())),
            ("input file", batch.input_file_id),
            ("output file", batch.output_file_id),
            ("error file", batch.error_file_id),
            *(("error", fault.message) for fault in faults[:_SHOWN_FAULTS]),
        ]
    )
    if len(faults) > _SHOWN_FAULTS:
        note(f"{len(faults) - _SHOWN_FAULTS} further errors; --json has them")
    if batch.output_file_id is not None:
        note(f"Next: lorry batches download {batch.id}")
