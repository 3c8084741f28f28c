"""The input file of a batch: whether it and its model are right, and what of it was not asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gateway.batches.lines import MOST_FILE_BYTES, BatchFile, CheckedFile, FileRefused
from gateway.batches.records import unasked_records
from gateway.edge.parts import Gateway
from gateway.errors import HTTP_ERRORS, GatewayError, ModelNotFound, NothingStable
from gateway.keys.access import check_model, unknown_model
from gateway.keys.caller import Caller
from gateway.routing.paths import HOT_PATHS
from gateway.routing.routing import not_offered, resolve
from registry.batches.batch import Batch, BatchFault
from registry.batches.batch_state import BatchState
from registry.database import Registry
from registry.errors import ArtifactCorrupt, NotFound

_GONE: Final = "the API key that created the batch is not valid any more; create the batch again with a valid key"
_FIRST_KEY: Final = "the batch was created while there was no API key, and there are keys now; create it again with one"


def key_fault(gateway: Gateway, batch: Batch) -> BatchFault | None:
    """Return the fault of a batch whose key is gone; None while it is valid."""
    if gateway.keyring.caller_with(batch.key_id) is not None:
        return None
    return BatchFault(code="key_revoked", message=_GONE if batch.key_id else _FIRST_KEY)


def checked(registry: Registry, batch: Batch, file: BatchFile) -> CheckedFile:
    """Return what the batch's file has. Raises `FileRefused`."""
    with input_path(registry, batch).open("rb") as lines:
        return file.check(lines)


def input_path(registry: Registry, batch: Batch) -> Path:
    """Return the path of the batch's file, verified. Raises `FileRefused`."""
    try:
        stored = registry.files.held(batch.input_file)
        path = registry.files.path(stored)
    except NotFound as exc:
        raise _refused("file_not_found", f"there is no file {batch.input_file!r} any more") from exc
    except ArtifactCorrupt as exc:
        message = f"the bytes of {batch.input_file!r} are damaged; upload the file again"
        raise _refused("file_damaged", message) from exc
    if stored.size_bytes > MOST_FILE_BYTES:
        message = f"the file has {stored.size_bytes:,} bytes; the most are {MOST_FILE_BYTES:,}"
        raise _refused("file_too_large", message)
    return path


def _refused(code: str, message: str) -> FileRefused:
    return FileRefused([BatchFault(code=code, message=message, param="input_file_id")])


def unasked(
    registry: Registry, batch: Batch, file: BatchFile, answered: set[int], outcome: BatchState
) -> Iterator[str]:
    """Yield a line for the error file for each request without a result; none where the file cannot be read."""
    if batch.total == len(answered) or batch.in_progress_at is None:
        return
    try:
        path = input_path(registry, batch)
    except FileRefused:
        return
    with path.open("rb") as lines:
        yield from unasked_records(file.lines(lines), answered, outcome)


def model_fault(gateway: Gateway, batch: Batch, model: str) -> BatchFault | None:
    """Return why the creator of the batch cannot have it answered by *model*; None if nothing is wrong."""
    caller = gateway.keyring.caller_with(batch.key_id)
    if caller is None:
        return key_fault(gateway, batch)
    try:
        _check(gateway, caller, batch.endpoint, model)
    except GatewayError as exc:
        return BatchFault(code=HTTP_ERRORS[type(exc)][1], message=exc.message, param="body.model")
    return None


def _check(gateway: Gateway, caller: Caller, endpoint: str, model: str) -> None:
    """Return if *model* is there for *caller*, though maybe without a replica at the moment."""
    table = gateway.feed.table
    check_model(caller, table, model)
    try:
        target = resolve(table, model, "", caller=caller.name)
    except ModelNotFound as exc:
        raise unknown_model(caller, table, model) from exc
    except NothingStable:
        return
    answering = HOT_PATHS[endpoint.encode()].through or endpoint
    if table.endpoints_of(target.served_name) and not gateway.offers.of(table, target.served_name, answering):
        raise not_offered(table, target.served_name, answering, caller.models)
