"""From the body of a fine-tuning request to a spec that the trainer can run, with every value resolved and checked."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

from gateway.errors import InvalidRequest
from gateway.keys.access import check_trainable, shown
from gateway.keys.auth import ANYBODY, Caller
from gateway.openai.types import CreateJob, RolloutRequest
from registry.contracts.fine_tune_spec import FineTuneSpec
from registry.contracts.hyperparameters import MethodOptions
from registry.contracts.job_kinds import FINE_TUNING_KINDS, FINE_TUNING_METHODS
from registry.contracts.job_spec import LoraSpec
from registry.contracts.rollout_spec import RolloutSpec
from registry.database import Registry
from registry.errors import AdapterRejected, InvalidPlan, NotFound, TrainingFileInvalid
from registry.publishing.adapter_name import adapter_name_of
from registry.publishing.checks import check_targets
from registry.publishing.pool_limits import check_pools, check_takes_adapters
from registry.types import Base, File


def build_spec(body: CreateJob, registry: Registry, caller: Caller = ANYBODY) -> FineTuneSpec:
    """Return the spec of the job that *body* asks for; `InvalidRequest` names the field that cannot be served."""
    kind = FINE_TUNING_KINDS[0] if body.method is None else FINE_TUNING_METHODS[body.method.type]
    base = _base(body.model, registry)
    files = Uploads(registry, caller.sees, Path(base.path))
    rows = files.count_rows(kind, body.training_file, "training_file")
    if body.validation_file is not None:
        files.count_rows(kind, body.validation_file, "validation_file")
    options = _options(body, kind)
    adapter = _adapter_name(body, base, registry, caller)
    resolved = kind.resolve(options, rows)
    _check_lora(resolved["lora"], base, registry)
    return kind(
        base=base.name,
        base_digest=base.digest,
        adapter=adapter,
        training_file=body.training_file,
        validation_file=body.validation_file,
        seed=secrets.randbelow(2**31) if body.seed is None else body.seed,
        suffix=body.suffix or None,
        rollout=_rollout(body.rollout),
        metadata=body.metadata or {},
        **resolved,
    )


def _rollout(asked: RolloutRequest | None) -> RolloutSpec | None:
    try:
        return None if asked is None else RolloutSpec.from_plan(asked.plan())
    except InvalidPlan as exc:
        raise InvalidRequest(f"rollout: {exc}", param="rollout") from exc


def _base(name: str, registry: Registry) -> Base:
    try:
        base = registry.bases.get(name)
        check_takes_adapters(base, registry.replicas.list())
    except NotFound as exc:
        names = ", ".join(base.name for base in registry.bases.list())
        raise InvalidRequest(
            f"model {name!r} cannot be fine-tuned here; base models are {names}", param="model"
        ) from exc
    except AdapterRejected as exc:
        raise InvalidRequest(f"{exc}", param="model") from exc
    return base


@dataclass(frozen=True, slots=True)
class Uploads:
    """The files that a job may read: those that its author sees."""

    registry: Registry
    tenant: str | None
    base_folder: Path

    def count_rows(self, kind: type[FineTuneSpec], file_id: str, param: str) -> int:
        """Return the number of rows that *kind* finds in the file; `InvalidRequest` names *param*."""
        try:
            file: File = self.registry.files.get(file_id, self.tenant)
        except NotFound as exc:
            raise InvalidRequest(
                f"{param} {shown(file_id)!r} does not exist; upload it to /v1/files first", param=param
            ) from exc
        try:
            with self.registry.files.path(file).open("rb") as lines:
                return kind.count_rows(lines, self.base_folder)
        except TrainingFileInvalid as exc:
            raise InvalidRequest(f"{param} {shown(file_id)!r}: {exc}", param=param) from exc


def _options(body: CreateJob, kind: type[FineTuneSpec]) -> MethodOptions:
    if body.method is None:
        given = body.hyperparameters
        return kind.options_as() if given is None else kind.options_as(hyperparameters=given)
    if body.hyperparameters is not None:
        raise InvalidRequest(
            f"give hyperparameters or method.{body.method.type}.hyperparameters, not both", param="hyperparameters"
        )
    return body.method.options()


def _check_lora(lora: LoraSpec, base: Base, registry: Registry) -> None:
    try:
        check_targets(lora.rank, lora.target_modules, base)
        check_pools(lora.rank, base, registry.replicas.list())
    except AdapterRejected as exc:
        raise InvalidRequest(f"{exc}", param="hyperparameters") from exc


def _adapter_name(body: CreateJob, base: Base, registry: Registry, caller: Caller) -> str:
    name = adapter_name_of(body.suffix) if body.suffix else f"adapter-{secrets.token_hex(4)}"
    if name in {other.name for other in registry.bases.list()}:
        raise InvalidRequest(f"suffix {name!r} is the name of a base model; take another", param="suffix")
    check_trainable(registry, caller, name)
    try:
        adapter = registry.adapters.get(name)
    except NotFound:
        return name
    if adapter.base != base.name:
        raise InvalidRequest(
            f"suffix {name!r} names an adapter for base model {adapter.base!r}; take another suffix", param="suffix"
        )
    return name
