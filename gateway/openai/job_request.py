"""From the body of a fine-tuning request to a spec that the trainer can run, with every value resolved and checked."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from estimates.data_shape import DataShape
from estimates.row_lengths import read_data_shape
from gateway.errors import InvalidRequest
from gateway.keys.access import check_trainable, shown
from gateway.keys.caller import ANYBODY, Caller
from gateway.openai.job_pictures import check_pictures
from gateway.openai.reward_graders import find_reward_models
from gateway.openai.types import CreateJob, MethodBody, RolloutRequest
from gateway.pools.base_tasks import check_generates
from gateway.routing.route_table import private_adapters
from registry.contracts.extensions.integrations import Integration
from registry.contracts.fine_tune_spec import FineTuneSpec
from registry.contracts.hyperparameters import Hyperparameters, MethodOptions
from registry.contracts.job_kinds import FINE_TUNING_KINDS, FINE_TUNING_METHODS
from registry.contracts.job_spec import ADAPTER_KINDS, LoraSpec
from registry.contracts.rollout_spec import RolloutSpec
from registry.contracts.uploads.file_purposes import TRAINING
from registry.database import Registry
from registry.errors import AdapterRejected, InvalidPlan, NotFound, TrainingFileInvalid, WeightsRefused
from registry.jobs.adapter_owners import Claim
from registry.publishing.adapter_name import adapter_name_of, check_adapter_name
from registry.publishing.checks import check_targets
from registry.publishing.pool_limits import check_pools, check_takes_adapters
from registry.states import Priority, ResultKind
from registry.types import Base, File, Replica
from registry.wording.suggestions import meant_or_known

ORDER: Final = tuple(Priority)
"""Priorities, the highest first."""


def build_spec(body: CreateJob, registry: Registry, caller: Caller = ANYBODY) -> FineTuneSpec:
    """Return the spec of the job that *body* asks for; `InvalidRequest` names the field that cannot be served."""
    kind = FINE_TUNING_KINDS[0] if body.method is None else FINE_TUNING_METHODS[body.method.type]
    base = registry.at_hand(find_base(body.model, registry, caller))
    files = Uploads(registry, caller.sees, Path(base.path))
    rows = files.count_rows(kind, body.training_file, "training_file")
    if body.validation_file is not None:
        files.count_rows(kind, body.validation_file, "validation_file")
    named = {"training_file": body.training_file, "validation_file": body.validation_file}
    asked = {field: file_id for field, file_id in named.items() if file_id is not None}
    options = method_options(body.method, body.hyperparameters, kind)
    spec = kind(
        base=base.name,
        base_digest=base.digest,
        adapter=_adapter_name(body),
        training_file=body.training_file,
        validation_file=body.validation_file,
        pictures=check_pictures(registry, caller.sees, kind, base, asked),
        seed=secrets.randbelow(2**31) if body.seed is None else body.seed,
        suffix=body.suffix or None,
        priority=_priority(body.priority, caller),
        integrations=_integrations(body),
        rollout=_rollout(body.rollout),
        metadata=body.metadata or {},
        **kind.resolve(options, rows),
        **_reward_models(options, base, registry, caller),
    )
    _check_selection(spec)
    check_trainable(registry, caller, spec.adapter)
    _check_name(spec, registry)
    _check_servable(spec, base, registry)
    return spec


def _reward_models(options: MethodOptions, base: Base, registry: Registry, caller: Caller) -> dict[str, Any]:
    """Return the field of the spec for the reward models that its graders name; nothing where they name none."""
    found = find_reward_models(options.graders(), registry, caller, "grader", base.name)
    return {"reward_artifacts": dict(found)} if found else {}


def claim_for(body: CreateJob, caller: Caller, adapter: str) -> Claim:
    """Return whose job *body* asks for: the caller's, or the tenant's that an admin names as its owner."""
    claim = caller.claim_on(adapter)
    if body.owner is None or body.owner == claim.tenant:
        return claim
    if not caller.is_admin:
        raise InvalidRequest(
            f"owner {shown(body.owner)!r}: the key {caller.name!r} may queue jobs of its own tenant only, "
            f"{claim.tenant!r}; leave owner out, or use an admin key",
            param="owner",
        )
    return replace(claim, tenant=body.owner, shares=False)


def _adapter_name(body: CreateJob) -> str:
    if body.adapter is None:
        return adapter_name_of(body.suffix) if body.suffix else f"adapter-{secrets.token_hex(4)}"
    if body.suffix:
        raise InvalidRequest("give adapter or suffix, not both: each names the adapter", param="adapter")
    try:
        check_adapter_name(body.adapter)
    except AdapterRejected as exc:
        raise InvalidRequest(f"adapter: {exc}", param="adapter") from exc
    return body.adapter


def _priority(asked: Priority | None, caller: Caller) -> Priority:
    if asked is None:
        return caller.priority
    if not caller.is_admin and ORDER.index(asked) < ORDER.index(caller.priority):
        raise InvalidRequest(
            f"priority {asked}: the key {caller.name!r} may queue jobs of priority {caller.priority} or lower",
            param="priority",
        )
    return asked


def _integrations(body: CreateJob) -> tuple[Integration, ...]:
    """Return the trackers that *body* names; `InvalidRequest` for one that is named twice or not installed."""
    asked = tuple(body.integrations or ())
    for at, integration in enumerate(asked):
        if integration.type in {each.type for each in asked[:at]}:
            raise InvalidRequest(f"integrations[{at}]: {integration.type} is there already", param="integrations")
        if find_spec(integration.module) is None:
            raise InvalidRequest(
                f"integrations[{at}]: {integration.type} is not installed here; the extra `tracking` of Lorry has it",
                param="integrations",
            )
    return asked


def _check_selection(spec: FineTuneSpec) -> None:
    """Raise `InvalidRequest` if a choice by validation loss is asked for without a file to validate on."""
    if spec.validation_file is not None:
        return
    asked = "keep best" if spec.keep == "best" else None
    if spec.early_stopping_patience is not None:
        asked = f"early_stopping_patience {spec.early_stopping_patience}"
    if asked is not None:
        raise InvalidRequest(
            f"{asked} compares validation losses; give a validation_file as well", param="validation_file"
        )


def _rollout(asked: RolloutRequest | None) -> RolloutSpec | None:
    try:
        return None if asked is None else RolloutSpec.from_plan(asked.plan())
    except InvalidPlan as exc:
        raise InvalidRequest(f"rollout: {exc}", param="rollout") from exc


def find_base(name: str, registry: Registry, caller: Caller) -> Base:
    """Return the base model that a job may start from: an entered folder, or a checkpoint that the caller may use."""
    snapshot = registry.snapshot()
    private = private_adapters(snapshot.owners)
    there = {base.name: base for base in snapshot.bases if caller.may_use((base.name,), private.get(base.name))}
    # A key that is for some models only names adapters, which stand on entered folders that every key may use.
    there |= {base.name: base for base in snapshot.bases if not base.is_checkpoint}
    if name not in there:
        raise InvalidRequest(
            f"model {shown(name)!r} cannot be fine-tuned here{meant_or_known(name, sorted(there))}", param="model"
        )
    return there[name]


@dataclass(frozen=True, slots=True)
class Uploads:
    """The files that a job may read: those that its author sees."""

    registry: Registry
    tenant: str | None
    base_folder: Path | None

    def count_rows(self, kind: type[FineTuneSpec], file_id: str, param: str) -> int:
        """Return the number of rows that *kind* finds in the file; `InvalidRequest` names *param*."""
        with self._readable(file_id, param) as path, path.open("rb") as lines:
            return kind.count_rows(lines, self.base_folder)

    def count_lines(self, file_id: str, param: str) -> int:
        """Return the number of the file's lines that are not blank; `InvalidRequest` names *param*."""
        with self._readable(file_id, param) as path, path.open("rb") as lines:
            return sum(1 for line in lines if line.strip())

    def data_shape(self, kind: type[FineTuneSpec], file_id: str, param: str) -> DataShape:
        """Return the lengths of the file's rows; `InvalidRequest` names *param*."""
        with self._readable(file_id, param) as path:
            return read_data_shape(path, kind, self.base_folder)

    @contextmanager
    def _readable(self, file_id: str, param: str) -> Iterator[Path]:
        """Provide the path of a training file; `InvalidRequest` if there is none, or if what reads it finds a fault."""
        try:
            file: File = self.registry.files.get(file_id, self.tenant)
        except NotFound as exc:
            raise InvalidRequest(
                f"{param} {shown(file_id)!r} does not exist; upload it to /v1/files first", param=param
            ) from exc
        if file.purpose != TRAINING.name:
            raise InvalidRequest(
                f"{param} {file_id!r} was uploaded for {file.purpose}; its purpose must be {TRAINING.name}", param=param
            )
        try:
            yield self.registry.files.path(file)
        except TrainingFileInvalid as exc:
            raise InvalidRequest(f"{param} {shown(file_id)!r}: {exc}", param=param) from exc


def method_options(method: MethodBody | None, given: Hyperparameters | None, kind: type[FineTuneSpec]) -> MethodOptions:
    """Return the options of a request's method; `InvalidRequest` for hyperparameters in two places."""
    if method is None:
        return kind.options_as() if given is None else kind.options_as(hyperparameters=given)
    if given is not None:
        raise InvalidRequest(
            f"give hyperparameters or method.{method.type}.hyperparameters, not both", param="hyperparameters"
        )
    return method.options()


def _check_servable(spec: FineTuneSpec, base: Base, registry: Registry) -> None:
    """Raise `InvalidRequest` for a result that the base model cannot have or that no replica of it could serve."""
    lora, replicas = spec.lora_shape(), registry.replicas.list()
    try:
        check_generates(base)
    except AdapterRejected as exc:
        raise InvalidRequest(f"{exc}", param="model") from exc
    try:
        spec.check_weights()
        spec.check_base(Path(base.path))
    except WeightsRefused as exc:
        raise InvalidRequest(f"{exc}", param="hyperparameters") from exc
    try:
        if spec.result_kind() is ResultKind.ADAPTER:
            check_takes_adapters(base, replicas)
    except AdapterRejected as exc:
        raise InvalidRequest(f"{exc}", param="model") from exc
    try:
        if lora is not None:
            check_targets(lora.rank, lora.target_modules, base)
        if spec.result_kind() is ResultKind.ADAPTER and lora is not None:
            _check_rank(lora, base, replicas)
    except AdapterRejected as exc:
        raise InvalidRequest(f"{exc}", param="hyperparameters") from exc
    if spec.rollout is not None and spec.result_kind() is not ResultKind.ADAPTER:
        raise InvalidRequest(
            f"rollout: it goes with the revision of an adapter, and the result of this job is a {spec.result_kind()}; "
            "leave it out",
            param="rollout",
        )


def _check_rank(lora: LoraSpec, base: Base, replicas: Iterable[Replica]) -> None:
    """Raise `AdapterRejected` for a rank that no replica takes once the adapter is published."""
    try:
        check_pools(lora.published_rank, base, replicas)
    except AdapterRejected as exc:
        if not lora.changes_base:
            raise
        why = f"lora_variant {lora.variant!r} is published as plain LoRA of twice the lora_rank {lora.rank}"
        raise AdapterRejected(f"{why}: {exc}") from exc


def _check_name(spec: FineTuneSpec, registry: Registry) -> None:
    """Raise `InvalidRequest` if the result cannot be published under the spec's name."""
    name, field = spec.adapter, "adapter" if spec.suffix is None else "suffix"
    if name in {other.name for other in registry.bases.list()}:
        raise InvalidRequest(f"{field} {name!r} is the name of a base model; take another", param=field)
    kind = ADAPTER_KINDS.get(spec.result_kind())
    adapter = next((one for one in registry.adapters.list() if one.name == name), None)
    if adapter is None or kind is None:
        return
    if adapter.base != spec.base:
        raise InvalidRequest(
            f"{field} {name!r} names an adapter for base model {adapter.base!r}; take another", param=field
        )
    if adapter.kind != kind:
        raise InvalidRequest(
            f"{field} {name!r} is a series of {adapter.kind} models, and this job makes a {kind} model; take another",
            param=field,
        )
