"""From the settings of a pool to what its replicas are built from."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any, Final, Protocol

from pydantic import ValidationError

from engines.base_task import BaseTask, task_of
from engines.catalog import ENVIRONMENTS, adapter_fields, build_engine, live_adapters
from engines.environments.record import ready_interpreter
from engines.hardware.machine import Machine
from engines.kinds import Hardware, Precision
from engines.proving.fingerprint import prove, tolerance_of
from engines.proving.proof import QUANTIZED, Proof
from engines.quantization import quantization_in
from engines.quantized_support import PRECISION_OF
from engines.replica.adapter_sets import EngineSource, Pace
from engines.replica.report import Prover
from engines.settings import EngineSettings
from gateway.engines_settings import BUNDLED_BASE, BUNDLED_ENCODER, PaceFields, PoolSettings
from gateway.errors import StartFailed
from gateway.pools.bundled import base_name_of, check_base_folder, encoder_folder, enter_base, is_bundled_encoder
from gateway.pools.engine_choice import chosen_pool
from gateway.pools.hub_ids import is_hub_id
from gateway.settings import Settings
from registry.artifacts import folder_digest
from registry.database import Registry
from registry.errors import RegistryError
from registry.liveness.sleeping_pools import SleepingPool
from registry.pulled.pulled_models import all_pulled, find_pulled
from registry.types import Base
from registry.wording.field_faults import fault_in
from registry.wording.suggestions import meant_or_known

_PRECISIONS: Final = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}
_UNROUTE_READINGS: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """The settings, engine and base model that the replicas of one pool share."""

    settings: PoolSettings
    engine: EngineSettings
    base: Base


class Ground(Protocol):
    """The surroundings in which pools are prepared."""

    def bundled_folder(self) -> Path:
        """Return the bundled model's folder; `StartFailed`."""
        ...

    def read_machine(self) -> Machine:
        """Return what the machine has."""
        ...

    def explain(self, reason: str) -> None:
        """Show why something was chosen."""
        ...


def prepare_pools(settings: Settings, registry: Registry, ground: Ground) -> list[Pool]:
    """Return every pool of the only machine, with its engine chosen and its base model entered in the registry.

    Nothing is started. Raises `StartFailed`, `EngineError` for a kind or a setting that cannot be, `RegistryError`.
    """
    for pool in settings.engines.pools:
        if pool.nodes > 1:
            raise StartFailed(
                f"pool {pool.name!r} has nodes = {pool.nodes}, and this is one machine: `lorry up --ray-address` "
                "deploys on a Ray cluster that has them"
            )
    return [prepare_pool(pool, settings.home, registry, ground) for pool in settings.engines.pools]


def prepare_pool(asked: PoolSettings, home: Path, registry: Registry, ground: Ground) -> Pool:
    """Return one pool as `prepare_pools` does."""
    entered = _entered(asked, registry)
    is_encoder = asked.base is not None and is_bundled_encoder(asked.base)
    base_folder = encoder_folder() if is_encoder else asked.base
    folder = Path(entered.path) if entered else base_folder or ground.bundled_folder()
    if asked.base is not None and entered is None:
        check_base_folder(folder)
    pool, choice = chosen_pool(asked, home, folder, ground.read_machine)
    for reason in choice.reasons if choice else ():
        ground.explain(reason)
    bundled = BUNDLED_ENCODER if is_encoder else BUNDLED_BASE
    name = bundled if is_encoder or pool.base is None else base_name_of(folder)
    base = entered or enter_base(registry, folder, name, registry.transactions.now())
    check_quantized_of(pool.serves_adapters_of, base)
    engine = engine_settings(pool, home, base)
    build_engine(engine)  # raises for what cannot be; nothing is started
    return Pool(settings=pool, engine=engine, base=base)


def sleeping_pool_of(pool: Pool) -> SleepingPool:
    """Return the row by which a pool is known while it has no replica."""
    return SleepingPool(
        name=pool.settings.name,
        base=pool.base.name,
        adapters_of=pool.settings.serves_adapters_of or "",
        engine=pool.engine.kind,
    )


def enter_sleeping_pools(registry: Registry, pools: Iterable[Pool]) -> None:
    """Let gateways know the pools that may have no replica, before they have one."""
    for pool in pools:
        if pool.settings.may_sleep:
            registry.sleeping_pools.enter(sleeping_pool_of(pool))


def _entered(asked: PoolSettings, registry: Registry) -> Base | None:
    """Return the checkpoint or the pulled model that the pool names; None where it names a folder, or nothing."""
    if asked.checkpoint is not None:
        found = _checkpoint(asked.checkpoint, registry)
    elif asked.base is not None and is_hub_id(str(asked.base)):
        found = _pulled(str(asked.base), registry)
    else:
        return None
    registry.artifacts.hold(found.digest)  # as long as this process lives, which starts engines on it
    return found


def _pulled(asked: str, registry: Registry) -> Base:
    """Return the model that was pulled under this id, its bytes verified; `StartFailed` if there is none."""
    try:
        base = find_pulled(registry, asked)
    except RegistryError as exc:
        raise StartFailed(f"settings [engines] base: {exc}") from exc
    if base is None:
        there = [model.pinned for _, model in all_pulled(registry)]
        raise StartFailed(
            f"settings [engines] base: there is no folder {asked!r}, and no model of this id was pulled"
            f"{meant_or_known(asked, there)}. Pull it first: lorry models pull {asked}"
        )
    try:
        base = registry.at_hand(base)
    except RegistryError as exc:
        raise StartFailed(f"settings [engines] base: {base.name!r}: {exc}") from exc
    if not Path(base.path).is_dir():
        name, _, commit = asked.partition("@")
        raise StartFailed(
            f"settings [engines] base: the folder {base.path} of {base.name!r} is gone; pull it again: "
            f"lorry models pull {name}@{commit or base.provenance['commit']} --hub {base.provenance['hub']}"
        )
    if folder_digest(Path(base.path)) != base.digest:
        raise StartFailed(
            f"settings [engines] base: files of {base.name!r} have changed since it was pulled; "
            f"lorry models verify {base.name} lists them"
        )
    return base


def _checkpoint(name: str, registry: Registry) -> Base:
    """Return the checkpoint, its bytes verified; `StartFailed` if there is none of this name."""
    there = {base.name: base for base in registry.bases.list() if base.is_checkpoint}
    if name not in there:
        listed = ", ".join(there) or "none yet"
        raise StartFailed(f"settings [engines] checkpoint: there is no checkpoint {name!r}; there are: {listed}")
    try:
        registry.artifacts.folder(there[name].digest)
    except RegistryError as exc:
        raise StartFailed(f"settings [engines] checkpoint: {name!r}: {exc}") from exc
    return registry.at_hand(registry.bases.get(name))  # with its provenance


def check_quantized_of(parent: str | None, base: Base) -> None:
    """Raise `StartFailed` unless *base* may take the adapters of *parent*: it is quantized from it and nothing else."""
    if parent is None or (base.parent == parent and base.is_quantized_parent):
        return
    made = "an adapter is merged into it" if "adapter" in base.provenance else "it is not quantized"
    of_other = f"it was made from {base.parent!r}" if base.is_checkpoint else "it is not a checkpoint"
    why = made if base.parent == parent else of_other
    raise StartFailed(
        f"settings [engines] serves_adapters_of: {base.name!r} cannot serve adapters of {parent!r}: {why}. The setting "
        "names the base model that the checkpoint was quantized from"
    )


def engine_settings(pool: PoolSettings, home: Path, base: Base) -> EngineSettings:
    """Return the engine's settings: those of the pool and those that follow from the base model; `StartFailed`."""
    known = {"kind": pool.kind, "base_path": base.path, "base_name": base.name, "log_path": "engine.log"}
    found: dict[str, Any] = {"interpreter": ready_interpreter(home, pool.kind)} if _needs_interpreter(pool) else {}
    if task_of(Path(base.path)) is not BaseTask.GENERATE:
        found["max_adapters"] = 0
    try:
        engine = EngineSettings.model_validate(found | pool.engine | known)
    except ValidationError as exc:
        fields = sorted(set(EngineSettings.model_fields) - set(known))
        fault = fault_in(found | pool.engine | known, exc, fields)
        sentence = fault.sentence.replace("unknown field", "unknown setting")
        raise StartFailed(f"settings [engines.engine] {sentence}") from exc
    if engine.port and (pool.most_replicas > 1 or not live_adapters(pool.kind)):
        raise StartFailed(
            f"settings [engines.engine] port: pool {pool.name!r} has several engines at a time, which cannot share "
            "one; leave it out, and each takes a free one"
        )
    return engine


def _needs_interpreter(pool: PoolSettings) -> bool:
    return pool.kind in ENVIRONMENTS and "interpreter" not in pool.engine


def engine_source(engine: EngineSettings) -> EngineSource:
    """Return where replicas with these settings get their engines."""
    return EngineSource(build=lambda adapters: build_engine(engine, adapters), live_adapters=live_adapters(engine.kind))


def pace_of(knobs: PaceFields, route_refresh_s: float) -> Pace:
    """Return how fast replicas move; gateways have seen a report after some of their readings and some of our ticks."""
    return Pace(
        tick_s=knobs.tick_s,
        unroute_s=_UNROUTE_READINGS * max(knobs.tick_s, route_refresh_s),
        settle_s=knobs.settle_s,
        drain_timeout_s=knobs.replace_drain_s,
    )


def prover_of(kind: str, precision: str) -> Prover:
    """Return what replays fingerprints on engines of *kind* with weights in *precision*; `EngineError` if unknown."""
    tolerance = tolerance_of(kind, precision)

    async def replay(url: str, served_name: str, folder: Path) -> Proof:
        return await prove(url, adapter_fields(kind, served_name), folder, tolerance)

    return replay


def drain_timeout_of(settings: Settings, pool: PoolSettings) -> float:
    """Return how long requests may take to finish in a replica that leaves.

    Where replicas come and go by themselves, a long answer must not be cut off because other clients are few.
    """
    if pool.most_replicas == pool.min_replicas:
        return settings.gateway.drain_timeout_s
    return max(settings.gateway.drain_timeout_s, settings.engines.replace_drain_s)


def room_of(engine: EngineSettings, factor: float) -> int:
    """Return how many requests each gateway may have at a replica with these settings at a time."""
    return ceil(factor * engine.max_batch * engine.data_parallel)


def precision_of(engine: EngineSettings) -> str:
    """Return the precision of the weights in an engine with these settings."""
    stored = stored_precision(engine.base_path)
    if stored in QUANTIZED:  # whatever the rest is computed in
        return stored
    if engine.precision is not None:
        return str(engine.precision)
    return "fp32" if engine.hardware is Hardware.CPU else stored


def stored_precision(folder: Path) -> str:
    """Return the precision that the base model's weights are stored in, `bf16` where its config names none of ours."""
    if (found := quantization_in(folder)) is not None:
        return str(PRECISION_OF.get(found.scheme, Precision.INT4))
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):
        return "bf16"
    return _PRECISIONS.get(str(config.get("dtype") or config.get("torch_dtype")), "bf16")
