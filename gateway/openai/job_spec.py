"""From the body of a fine-tuning request to a spec that the trainer can run, every value resolved and checked."""

from __future__ import annotations

import secrets
from typing import Any

from gateway.errors import InvalidRequest
from gateway.openai.types import CreateJob, Hyperparameters, RolloutRequest
from registry.contracts.training_file import check_training_lines
from registry.contracts.training_spec import ROLLOUT, LoraSpec, TrainingSpec, resolve_auto
from registry.database import Registry
from registry.errors import AdapterRejected, InvalidPlan, NotFound
from registry.publishing.checks import check_adapter_name, check_targets
from registry.publishing.pool_limits import check_pools, check_takes_adapters
from registry.rollouts.rollout import plan_as_json
from registry.types import Base, File


def build_spec(body: CreateJob, registry: Registry) -> TrainingSpec:
    """The spec of the job that *body* asks for; `InvalidRequest` names the field that cannot be."""
    base = _base(body.model, registry)
    rows = _rows(registry, body.training_file, "training_file")
    if body.validation_file is not None:
        _rows(registry, body.validation_file, "validation_file")
    asked = _hyperparameters(body)
    adapter = _adapter_name(body, base, registry)
    fields = _resolved(asked, rows)
    if body.rollout:
        fields |= {f"{ROLLOUT}{name}": value for name, value in _plan(body.rollout).items()}
    return TrainingSpec(
        base=base.name,
        base_digest=base.digest,
        adapter=adapter,
        training_file=body.training_file,
        validation_file=body.validation_file,
        seed=secrets.randbelow(2**31) if body.seed is None else body.seed,
        lora=_lora(asked, base, registry),
        suffix=body.suffix,
        metadata=body.metadata or {},
        requested={"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": "auto"}
        | {key: value for key, value in asked.model_dump(exclude_none=True).items() if not isinstance(value, list)},
        **fields,
    )


def _plan(asked: RolloutRequest) -> dict[str, Any]:
    try:
        return plan_as_json(asked.plan())
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


def _rows(registry: Registry, file_id: str, param: str) -> int:
    try:
        file: File = registry.files.get(file_id)
    except NotFound as exc:
        raise InvalidRequest(f"{param} {file_id!r} does not exist; upload it to /v1/files first", param=param) from exc
    with registry.files.path(file).open("rb") as lines:
        return check_training_lines(lines).rows


def _hyperparameters(body: CreateJob) -> Hyperparameters:
    if body.method is None:
        return body.hyperparameters or Hyperparameters()
    if body.hyperparameters is not None:
        raise InvalidRequest(
            "give hyperparameters or method.supervised.hyperparameters, not both", param="hyperparameters"
        )
    return body.method.supervised.hyperparameters


def _resolved(asked: Hyperparameters, rows: int) -> dict[str, Any]:
    """Every hyperparameter that was asked for or that `auto` decides; the spec's defaults fill the rest."""
    auto = resolve_auto(rows)
    multiplier = asked.learning_rate_multiplier or 1.0
    given = asked.model_dump(include={"warmup_ratio", "max_length", "checkpoint_steps"}, exclude_none=True)
    return given | {
        "n_epochs": asked.n_epochs or auto.n_epochs,
        "batch_size": asked.batch_size or auto.batch_size,
        "learning_rate": multiplier * (asked.learning_rate or auto.learning_rate),
        "learning_rate_multiplier": multiplier,
    }


def _lora(asked: Hyperparameters, base: Base, registry: Registry) -> LoraSpec:
    given = {
        "rank": asked.lora_rank,
        "alpha": asked.lora_alpha or (2 * asked.lora_rank if asked.lora_rank else None),
        "dropout": asked.lora_dropout,
        "target_modules": tuple(asked.target_modules) if asked.target_modules else None,
    }
    lora = LoraSpec.model_validate({name: value for name, value in given.items() if value is not None})
    try:
        check_targets(lora.rank, lora.target_modules, base)
        check_pools(lora.rank, base, registry.replicas.list())
    except AdapterRejected as exc:
        raise InvalidRequest(f"{exc}", param="hyperparameters") from exc
    return lora


def _adapter_name(body: CreateJob, base: Base, registry: Registry) -> str:
    name = body.suffix or f"adapter-{secrets.token_hex(4)}"
    if name in {other.name for other in registry.bases.list()}:
        raise InvalidRequest(f"suffix {name!r} is the name of a base model; take another", param="suffix")
    try:
        check_adapter_name(name)
        adapter = registry.adapters.get(name)
    except AdapterRejected as exc:
        raise InvalidRequest(f"suffix becomes an adapter's name. {exc}", param="suffix") from exc
    except NotFound:
        return name
    if adapter.base != base.name:
        raise InvalidRequest(
            f"suffix {name!r} names an adapter for base model {adapter.base!r}; take another suffix", param="suffix"
        )
    return name
