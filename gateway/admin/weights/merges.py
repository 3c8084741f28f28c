"""`/admin/merges`: merge a revision into its base model, as a checkpoint."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter
from pydantic import Field

from gateway.deps import AuthorDep, CallerDep, Gateway, GatewayDep
from gateway.errors import InvalidRequest
from gateway.keys.access import check_trainable, own_model
from gateway.keys.caller import Caller
from gateway.objects.jobs import JobErrorObject
from gateway.objects.weights.merges import MergeObject
from gateway.openai.types import Body
from registry.contracts.merge_spec import MergeSpec
from registry.database import Registry
from registry.errors import AdapterRejected, NotFound
from registry.jobs.job import Job
from registry.publishing.adapter_name import check_adapter_name
from registry.states import AdapterKind
from registry.types import Revision

router = APIRouter(prefix="/admin/merges", tags=["jobs"])


class MergeRequest(Body):
    """The body of `POST /admin/merges`."""

    model: Annotated[str, Field(min_length=1, max_length=256)]
    """Name of the revision: `support@7`."""
    name: Annotated[str | None, Field(min_length=1, max_length=64)] = None
    """First part of the checkpoint's name, to which a number is added; the adapter's name if it is left out."""


@router.post("")
async def merge(body: MergeRequest, gateway: GatewayDep, author: AuthorDep) -> MergeObject:
    """Queue the job that publishes the base model with the revision's adapter in its weights as a checkpoint."""

    def create() -> MergeObject:
        registry, caller = gateway.registry, author.caller
        revision = _mergeable(registry, caller, body.model)
        series = body.name or revision.adapter
        _check_name(series)
        check_trainable(registry, caller, series)
        spec = MergeSpec(
            base=revision.base,
            base_digest=revision.base_digest,
            adapter=series,
            revision=revision.served_name,
            artifact=revision.artifact,
        )
        return _shown(registry.jobs.create(spec, author.name, caller.claim_on(series)))

    return await gateway.ask(create)


@router.get("/{job_id}")
async def show_merge(job_id: str, gateway: GatewayDep, caller: CallerDep) -> MergeObject:
    """Show the job; once it has succeeded, `checkpoint` has the name of what it made."""
    return await gateway.ask(_read, gateway, caller, job_id)


def _read(gateway: Gateway, caller: Caller, job_id: str) -> MergeObject:
    job = gateway.registry.jobs.get(job_id, None if caller.is_admin else caller.tenant)
    if job.spec.method != MergeSpec.method_name():
        raise NotFound(f"job {job_id!r} is not a merge; it is in /admin/jobs")
    return _shown(job)


def _check_name(name: str) -> None:
    try:
        check_adapter_name(name)
    except AdapterRejected as exc:
        raise InvalidRequest(str(exc), param="name") from exc


def _mergeable(registry: Registry, caller: Caller, name: str) -> Revision:
    """Return the caller's revision of this name; `InvalidRequest` for one that has no place in a base's weights."""
    revision = own_model(registry, caller, name)
    if registry.adapters.get(revision.adapter).kind is not AdapterKind.CHAT:
        raise InvalidRequest(
            f"{name} is a reward model: its score head is no part of a base model, so it is not merged", param="model"
        )
    base = registry.at_hand(registry.bases.get(revision.base))
    if reason := quantized_tensor(base.path):
        raise InvalidRequest(
            f"the base model {base.name!r} has quantized weights ({reason}): an adapter is merged into the weights "
            "that were quantized, not into their rounded form",
            param="model",
        )
    return revision


def quantized_tensor(folder: str) -> str | None:
    """Return what shows that the weights in *folder* are quantized; None for floating point numbers."""
    from pathlib import Path

    from registry.publishing.checks import base_files  # loads numpy
    from registry.publishing.tensor_files import FLOATS, read_shapes

    try:
        read_shapes((each for each in base_files(Path(folder)) if each.is_file()), FLOATS)
    except AdapterRejected as exc:
        return str(exc)
    return None


def _shown(job: Job) -> MergeObject:
    spec = MergeSpec.model_validate(job.spec.model_dump())
    return MergeObject(
        id=job.id,
        model=spec.revision,
        base=spec.base,
        status=job.state,
        checkpoint=job.fine_tuned_model,
        error=None if job.error is None else JobErrorObject.model_validate(asdict(job.error)),
    )
