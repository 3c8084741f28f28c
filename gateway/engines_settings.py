"""Table `[engines]` of the settings: the pools that `lorry up` starts, in either of its two forms."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from engines.kinds import DEFAULT_KIND
from gateway.pool_needs import PoolNeeds
from registry.errors import SettingsInvalid
from registry.settings import parse_table
from registry.wording.field_faults import written_as
from registry.wording.known_fields import KnownFields

BUNDLED_BASE: Final = "smollm2-135m-instruct"
"""Name of the base model that comes with Lorry."""
BUNDLED_ENCODER: Final = "all-minilm-l6-v2"
"""Name of the encoder that comes with Lorry, which a pool serves whose `base` is this name in place of a folder."""


class PoolFields(PoolNeeds):
    """The settings of every pool, in `[engines]` or in one of `[[engines.pools]]`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str = DEFAULT_KIND
    """Kind of engine, from the catalog. Where it is not set and there is an accelerator, `lorry up` chooses it."""
    base: Path | None = None
    """Hugging Face folder, id of a pulled model, or `all-minilm-l6-v2`, the bundled encoder; None: bundled model."""
    checkpoint: str | None = None
    """Name of a checkpoint in the registry, which a job made, in place of a folder."""
    serves_adapters_of: str | None = None
    """Base model whose adapters the pool serves, after their proof, on `checkpoint`, which was quantized from it."""
    engine: dict[str, Any] = Field(default_factory=dict)
    """Fields of the engine's own settings (`EngineSettings`), for example `threads` or `max_adapters`."""

    @model_validator(mode="after")
    def _has_one_base(self) -> Self:
        if self.base is not None and self.checkpoint is not None:
            raise ValueError("give base or checkpoint, not both")
        is_open = "kind" not in self.model_fields_set
        self.check_kind(self.kind, is_open=is_open)
        self.check_devices(self.engine, is_open=is_open)
        return self


class PoolSettings(PoolFields):
    """A table of `[[engines.pools]]`: replicas alike in base model and kind."""

    name: Annotated[
        str,
        written_as(r"[a-z0-9][a-z0-9-]{0,31}", "at most 32 small letters, digits and -, of which the first is no -"),
    ]
    """Name of the pool."""
    min_replicas: NonNegativeInt = 1
    """Lowest number of engine replicas, each with the whole base model in memory; 0 lets the pool sleep."""
    max_replicas: PositiveInt | None = None
    """Highest number of engine replicas; None means `min_replicas`, so that the number never changes, and 1 for 0."""
    target_requests: PositiveFloat = 8.0
    """Requests that should run or wait in each replica, where the number of replicas may change."""
    scale_up_after_s: PositiveFloat = 10.0
    """How long more replicas must be needed before replicas are added."""
    scale_down_after_s: PositiveFloat = 300.0
    """How long fewer replicas must suffice before replicas are removed."""
    sleep_after_s: PositiveFloat = 600.0
    """How long a pool with `min_replicas = 0` must have nothing to do before its last replica is removed."""

    @model_validator(mode="after")
    def _has_room(self) -> PoolSettings:
        if self.max_replicas is not None and self.max_replicas < self.min_replicas:
            raise ValueError(f"max_replicas {self.max_replicas} is below min_replicas {self.min_replicas}")
        if "sleep_after_s" in self.model_fields_set and not self.may_sleep:
            raise ValueError(f"sleep_after_s needs min_replicas = 0, and min_replicas is {self.min_replicas}")
        return self

    @property
    def most_replicas(self) -> int:
        """The highest number of engine replicas."""
        return self.max_replicas or max(1, self.min_replicas)

    @property
    def may_sleep(self) -> bool:
        """Whether the pool may have no replica, until a request needs one."""
        return self.min_replicas == 0


class PaceFields(KnownFields):
    """The settings that hold for all pools together."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tick_s: PositiveFloat = 0.25
    """How often a replica looks at which adapters to have; every eighth time it reports and checks its engine."""
    settle_s: PositiveFloat = 2.0
    """How long changes of adapters are collected before an engine that loads adapters only at launch is replaced."""
    replace_drain_s: PositiveFloat = 600.0
    """How long requests may take to finish in an engine that was replaced by an engine with other adapters."""


class OnePoolSettings(PaceFields, PoolFields):
    """Table `[engines]` without `[[engines.pools]]`: one pool of a fixed size."""

    replicas: PositiveInt = 1
    """Engine replicas, each with the whole base model in memory."""

    def as_pools(self) -> EnginesSettings:
        """Return the same settings as a single pool with the name `default`."""
        of_pool = self.model_dump(include=set(PoolFields.model_fields) & self.model_fields_set)
        pool = PoolSettings(name="default", min_replicas=self.replicas, **of_pool)
        return EnginesSettings(pools=(pool,), **self.model_dump(include=set(PaceFields.model_fields)))


class EnginesSettings(PaceFields):
    """Table `[engines]`: the pools that `lorry up` starts."""

    pools: tuple[PoolSettings, ...] = Field(min_length=1)
    """Settings of each pool."""

    @model_validator(mode="after")
    def _names_differ(self) -> EnginesSettings:
        names = [pool.name for pool in self.pools]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two pools are named {twice[0]!r}")
        return self


def engines_settings(table: Mapping[str, Any], flags: Mapping[str, Any]) -> EnginesSettings:
    """Return the pools of table `[engines]` in either form; *flags* (fields of a pool) override the only pool.

    Raises `SettingsInvalid`, also for flags where there are several pools.
    """
    if "pools" not in table:
        return parse_table(OnePoolSettings, "engines", dict(table) | dict(flags)).as_pools()
    if beside := sorted(set(table) & set(OnePoolSettings.model_fields) - set(PaceFields.model_fields)):
        raise SettingsInvalid(
            f"settings [engines] {beside[0]}: belongs in one of [[engines.pools]], as there are such tables"
        )
    engines = parse_table(EnginesSettings, "engines", table)
    if flags and len(engines.pools) > 1:
        names = ", ".join(pool.name for pool in engines.pools)
        raise SettingsInvalid(f"--model and --engine are for a single pool; the settings have {names}")
    if not flags:
        return engines
    return parse_table(EnginesSettings, "engines", {**table, "pools": [{**table["pools"][0], **flags}]})
