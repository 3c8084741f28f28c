"""`/admin/quantizations`: quantize a revision, a base model or a checkpoint, as a checkpoint."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import Field

from engines.environments.record import ready_interpreter
from engines.errors import DoesNotFit, EnvironmentMissing
from engines.hardware.scheme_choice import Use, choose_scheme, refusals, why_refused
from gateway.admin.jobs import work_report
from gateway.admin.weights.merges import quantized_tensor
from gateway.deps import AuthorDep, CallerDep, Gateway, GatewayDep
from gateway.errors import InvalidRequest, ToolMissing
from gateway.keys.access import check_own, check_trainable, own_unless_base
from gateway.keys.caller import Caller
from gateway.objects.jobs import JobErrorObject
from gateway.objects.weights.quantizations import QuantizationObject
from gateway.openai.job_request import Uploads, find_base
from gateway.openai.types import Body
from gateway.pools.base_tasks import check_generates
from registry.contracts.job_kinds import FINE_TUNING_KINDS
from registry.contracts.pictures.vision_base import is_vision_base
from registry.contracts.quantizations.quantization_report import QuantizationReport
from registry.contracts.quantizations.quantize_spec import USUAL_LENGTH, USUAL_RISE, QuantizeSpec
from registry.contracts.quantizations.rows_used import samples_for
from registry.contracts.quantizations.schemes import SCHEMES, Scheme, choose_group
from registry.database import Registry
from registry.errors import AdapterRejected, NotFound
from registry.jobs.job import Job
from registry.publishing.adapter_name import adapter_name_of, check_adapter_name
from registry.states import AdapterKind, ReplicaState
from registry.types import Base
from registry.wording.suggestions import meant_or_known

router = APIRouter(prefix="/admin/quantizations", tags=["jobs"])


class QuantizationRequest(Body):
    """The body of `POST /admin/quantizations`."""

    model: Annotated[str, Field(min_length=1, max_length=256)]
    """Name of a revision, base model or checkpoint: `support@7`."""
    calibration_file: Annotated[str, Field(min_length=1, max_length=256)]
    """Id of an uploaded file of chats, or of prompts with completions."""
    scheme: Literal["auto"] | Scheme = "auto"
    use: Use = Use.ONLINE
    """The use that `auto` chooses for."""
    pools: Annotated[tuple[str, ...], Field(max_length=100)] = ()
    """Names of the pools that are to serve the result."""
    name: Annotated[str | None, Field(min_length=1, max_length=64)] = None
    """First part of the checkpoint's name, to which a number is added; by default model and scheme."""
    group_size: Annotated[int, Field(ge=1, le=4096)] | None = None
    samples: Annotated[int, Field(ge=1, le=100_000)] | None = None
    max_length: Annotated[int, Field(ge=16, le=131_072)] = USUAL_LENGTH
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    max_rise: Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)] = USUAL_RISE
    """The largest rise of perplexity on a text, as a part of what it was."""
    waive: tuple[Literal["english", "chinese", "calibration", "load-test"], ...] = ()
    """Texts whose rise is not judged; `load-test` where no engine's answers are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """The name of the model that is quantized."""

    name: str
    base: Base
    artifact: str | None
    series: str


@router.post("")
async def quantize(body: QuantizationRequest, gateway: GatewayDep, author: AuthorDep) -> QuantizationObject:
    """Queue the job that quantizes the model, scores it and publishes it as a checkpoint unless its gate refuses."""

    def create() -> QuantizationObject:
        spec = _spec_of(body, gateway, author.caller)
        job = gateway.registry.jobs.create(spec, author.name, author.caller.claim_on(spec.adapter))
        return _shown(job, gateway)

    return await gateway.ask(create)


@router.get("/{job_id}")
async def show_quantization(job_id: str, gateway: GatewayDep, caller: CallerDep) -> QuantizationObject:
    """Show the job and, once they are measured, its scores."""

    def read() -> QuantizationObject:
        job = gateway.registry.jobs.get(job_id, None if caller.is_admin else caller.tenant)
        return _shown(job, gateway)

    return await gateway.ask(read)


def _spec_of(body: QuantizationRequest, gateway: Gateway, caller: Caller) -> QuantizeSpec:
    source = _source(gateway.registry, caller, body.model)
    kinds = _pool_kinds(body.pools, gateway.registry)
    scheme, why = _scheme(body, kinds, gateway)
    _check_tool(scheme, gateway)
    series = body.name or adapter_name_of(f"{source.series}-{scheme}")
    _check_name(series)
    check_trainable(gateway.registry, caller, series)
    uploads = Uploads(gateway.registry, caller.sees, Path(source.base.path))
    rows = uploads.count_rows(FINE_TUNING_KINDS[0], body.calibration_file, "calibration_file")
    if SCHEMES[scheme].gguf_type is not None:
        _check_gguf(Path(source.base.path))
    group = choose_group(scheme, _widths(Path(source.base.path)), body.group_size)
    return QuantizeSpec(
        base=source.base.name,
        base_digest=source.base.digest,
        adapter=series,
        source=source.name,
        artifact=source.artifact,
        scheme=scheme,
        group_size=group.size,
        chosen_because=why,
        calibration_file=body.calibration_file,
        samples=samples_for(rows, body.samples),
        max_length=body.max_length,
        seed=secrets.randbelow(2**31) if body.seed is None else body.seed,
        max_rise=body.max_rise,
        waived=tuple(dict.fromkeys(body.waive)),
        pools=body.pools,
        engines=tuple(sorted(set(kinds.values()))),
        notes=() if group.remark is None else (group.remark,),
    )


def _source(registry: Registry, caller: Caller, name: str) -> _Source:
    """Return the model of this name; `InvalidRequest` for one that cannot be quantized."""
    whole = next((each for each in registry.bases.list() if name in (each.name, each.alias)), None)
    if whole is not None:
        base = find_base(whole.name, registry, caller)
        if base.is_checkpoint:
            check_own(registry, caller, name, (base.name, base.name))
        source = _Source(name=base.name, base=base, artifact=None, series=base.name.rpartition("/")[2])
    else:
        revision = own_unless_base(registry, caller, name)
        if registry.adapters.get(revision.adapter).kind is not AdapterKind.CHAT:
            raise InvalidRequest(f"{name} is a reward model, which no engine serves", param="model")
        base = registry.bases.get(revision.base)
        source = _Source(name=revision.served_name, base=base, artifact=revision.artifact, series=revision.adapter)
    source = replace(source, base=registry.at_hand(source.base))
    check_generates(source.base)
    if is_vision_base(Path(source.base.path)):
        raise InvalidRequest(f"{source.base.name} reads pictures; only models of texts are quantized", param="model")
    if reason := quantized_tensor(source.base.path):
        raise InvalidRequest(f"{source.base.name} is quantized already: {reason}", param="model")
    return source


def _scheme(body: QuantizationRequest, kinds: Mapping[str, str], gateway: Gateway) -> tuple[Scheme, str | None]:
    """Return the scheme for pools of *kinds* (name -> kind of engine), and why `auto` chose it."""
    machine = gateway.own_machine.get()
    scheme, why = body.scheme, None
    if scheme == "auto":
        try:
            choice = choose_scheme(machine, body.use, kinds)
        except DoesNotFit as exc:
            raise InvalidRequest(f"scheme auto: {exc}", param="scheme") from exc
        scheme, why = Scheme(choice.scheme), choice.why
    for name, kind in kinds.items():
        if reason := why_refused(kind, scheme, machine):
            raise InvalidRequest(f"pools: {name} could not serve the result: {reason}", param="pools")
    return Scheme(scheme), why


def _pool_kinds(asked: Sequence[str], registry: Registry) -> dict[str, str]:
    """Return the kind of engine of each pool that is *asked* for; `InvalidRequest` lists the pools there are."""
    replicas = registry.replicas.list()
    there = {each.pool: each.engine for each in replicas if each.pool and each.state is not ReplicaState.GONE}
    for name in asked:
        if name not in there:
            raise InvalidRequest(
                f"pools: there is no pool {name!r}{meant_or_known(name, sorted(there))}", param="pools"
            )
    return {name: there[name] for name in asked}


def _check_tool(scheme: Scheme, gateway: Gateway) -> None:
    tool = SCHEMES[scheme].tool
    if tool is None or gateway.home is None:
        return
    try:
        ready_interpreter(gateway.home, tool)
    except EnvironmentMissing as exc:
        raise ToolMissing(f"{scheme} is made by llm-compressor in an environment of its own: {exc}") from exc


def _check_gguf(base_folder: Path) -> None:
    from exports.errors import NotExportable
    from exports.gguf.families import read_sizes
    from exports.gguf.tokenizer import read_tokenizer

    try:
        read_tokenizer(base_folder, read_sizes(base_folder).vocabulary)
    except NotExportable as exc:
        raise InvalidRequest(f"scheme: {exc}", param="scheme") from exc


def _check_name(name: str) -> None:
    try:
        check_adapter_name(name)
    except AdapterRejected as exc:
        raise InvalidRequest(str(exc), param="name") from exc


def _widths(base_folder: Path) -> set[int]:
    """Return the numbers of inputs of the model's linear layers."""
    from registry.publishing.checks import base_modules, linear_modules  # loads numpy

    return {shape[1] for shape in linear_modules(base_modules(base_folder)).values()}


def _shown(job: Job, gateway: Gateway) -> QuantizationObject:
    if job.spec.method != QuantizeSpec.method_name():
        raise NotFound(f"job {job.id!r} is not a quantization; it is in /admin/jobs")
    spec = QuantizeSpec.model_validate(job.spec.model_dump())
    report = work_report(job, gateway.registry)
    return QuantizationObject(
        id=job.id,
        model=spec.source,
        base=spec.base,
        scheme=spec.scheme,
        chosen_because=spec.chosen_because,
        group_size=spec.group_size,
        samples=spec.samples,
        max_rise=spec.max_rise,
        waived=list(spec.waived),
        pools=list(spec.pools),
        status=job.state,
        checkpoint=job.fine_tuned_model,
        error=None if job.error is None else JobErrorObject.model_validate(asdict(job.error)),
        tried_on=list(spec.engines),
        engines=refusals(spec.scheme, gateway.own_machine.get()),
        report=None if report is None else QuantizationReport.model_validate(report),
    )
