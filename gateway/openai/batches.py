"""`/v1/batches`: create, list, retrieve, cancel. Gateways run them, see `gateway.batches`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query
from pydantic import Field

from gateway.deps import ActorDep, AuthorDep, CallerDep, GatewayDep, KnownQuery
from gateway.errors import InvalidRequest
from gateway.objects.batches import (
    BatchCounts,
    BatchFacts,
    BatchFaultList,
    BatchFaultObject,
    BatchObject,
    BatchUsageObject,
    InputTokensDetails,
    OutputTokensDetails,
)
from gateway.objects.lists import ObjectPage, page_of
from gateway.openai.files import WITHOUT_NULLS, ExpiresAfter
from gateway.openai.types import Body, MetadataKey, MetadataValue, whole_seconds
from gateway.routing.paths import HOT_PATHS
from registry.batches.batch import Batch, BatchDraft
from registry.contracts.uploads.file_purposes import BATCH
from registry.errors import NotFound
from registry.keys import Scope

router = APIRouter(prefix="/v1/batches", dependencies=[KnownQuery], tags=["batches"])

ENDPOINTS: Final[Any] = Literal[tuple(kind.path for kind in HOT_PATHS.values() if kind.takes_batches)]
"""Paths that a batch may be for."""


class CreateBatch(Body):
    """Body of `POST /v1/batches`."""

    input_file_id: str
    endpoint: ENDPOINTS
    completion_window: Literal["24h"]
    metadata: Annotated[dict[MetadataKey, MetadataValue], Field(max_length=16)] | None = None
    output_expires_after: ExpiresAfter | None = None


@router.post("", **WITHOUT_NULLS)
async def create_batch(body: CreateBatch, gateway: GatewayDep, author: AuthorDep) -> BatchObject:
    """Create a batch of the requests in a file; its lines are checked next, while it is `validating`."""
    caller = author.caller
    gateway.keyring.check(caller, Scope.INFERENCE)
    try:
        file = await gateway.ask(gateway.registry.files.get, body.input_file_id, caller.sees)
    except NotFound as exc:
        raise InvalidRequest(f"input_file_id: {exc}", param="input_file_id") from exc
    if file.purpose != BATCH.name:
        message = f"input_file_id: file {file.id} has the purpose {file.purpose}; upload it with purpose {BATCH.name}"
        raise InvalidRequest(message, param="input_file_id")
    draft = BatchDraft(
        endpoint=body.endpoint,
        input_file=file.id,
        metadata=body.metadata,
        output_expires_after_s=None if body.output_expires_after is None else body.output_expires_after.seconds,
        owner=author.name,
        tenant=caller.tenant,
        key_id=caller.key_id,
    )
    most = gateway.settings.max_open_batches
    return batch_object(await gateway.ask(gateway.registry.batches.create, draft, most))


@router.get("", **WITHOUT_NULLS)
async def list_batches(
    gateway: GatewayDep,
    caller: CallerDep,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> ObjectPage[BatchObject]:
    """List batches, newest first."""
    found = await gateway.ask(gateway.registry.batches.list, limit + 1, after, caller.sees)
    return page_of([batch_object(batch) for batch in found], limit)


@router.get("/{batch_id}", **WITHOUT_NULLS)
async def get_batch(batch_id: str, gateway: GatewayDep, caller: CallerDep) -> BatchObject:
    """Show one batch, with what it has answered so far."""
    return batch_object(await gateway.ask(gateway.registry.batches.get, batch_id, caller.sees))


@router.post("/{batch_id}/cancel", **WITHOUT_NULLS)
async def cancel_batch(batch_id: str, gateway: GatewayDep, caller: CallerDep, actor: ActorDep) -> BatchObject:
    """Cancel a batch; what is answered already will be in its output file."""
    return batch_object(await gateway.ask(gateway.registry.batches.request_cancel, batch_id, actor, caller.sees))


def batch_object(batch: Batch) -> BatchObject:
    """Return OpenAI's `batch` object."""
    faults = [BatchFaultObject(**asdict(fault)) for fault in batch.errors]
    usage = batch.usage
    return BatchObject(
        id=batch.id,
        endpoint=batch.endpoint,
        model=batch.model,
        errors=BatchFaultList(data=faults) if faults else None,
        input_file_id=batch.input_file,
        status=batch.state,
        output_file_id=batch.output_file,
        error_file_id=batch.error_file,
        created_at=int(batch.created_at),
        expires_at=int(batch.expires_at),
        in_progress_at=whole_seconds(batch.in_progress_at),
        finalizing_at=whole_seconds(batch.finalizing_at),
        completed_at=whole_seconds(batch.completed_at),
        failed_at=whole_seconds(batch.failed_at),
        expired_at=whole_seconds(batch.expired_at),
        cancelling_at=whole_seconds(batch.cancelling_at),
        cancelled_at=whole_seconds(batch.cancelled_at),
        request_counts=BatchCounts(total=batch.total, completed=batch.completed, failed=batch.failed),
        usage=BatchUsageObject(
            input_tokens=usage.input_tokens,
            input_tokens_details=InputTokensDetails(cached_tokens=usage.cached_tokens),
            output_tokens=usage.output_tokens,
            output_tokens_details=OutputTokensDetails(reasoning_tokens=usage.reasoning_tokens),
            total_tokens=usage.input_tokens + usage.output_tokens,
        ),
        metadata=None if batch.metadata is None else dict(batch.metadata),
        lorry=BatchFacts(owner=batch.owner, gateway=batch.holder, attempt=batch.attempt, waits_for=batch.note or None),
    )
