"""Knobs of the gateway and of the pools that it starts; the whole of the settings file put together."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    IPvAnyAddress,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from engines.kinds import DEFAULT_KIND
from registry.errors import SettingsInvalid
from registry.settings import RegistrySettings, lorry_home, parse_table, read_tables, registry_settings

BUNDLED_BASE: Final = "smollm2-135m-instruct"
"""Name of the base model that comes with Lorry."""


class GatewaySettings(BaseModel):
    """Table `[gateway]`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: IPvAnyAddress = IPv4Address("127.0.0.1")
    """IP address to listen on, `0.0.0.0` for all of IPv4. Without keys only loopback is served."""
    port: int = Field(default=8080, ge=1, le=65535)
    """Port of the OpenAI and admin faces."""
    replicas: PositiveInt = 2
    """Gateway processes on that port; with one alone a replacement leaves seconds without a listener."""
    route_refresh_s: PositiveFloat = 0.25
    """How often each gateway reads the registry. A promote or rollback is in force everywhere one reading later."""
    replica_wait_s: PositiveFloat = 60.0
    """How long a request waits for a replica that serves its revision before 503."""
    connect_timeout_s: PositiveFloat = 2.0
    """How long connecting to an engine may take before another replica is tried."""
    request_timeout_s: PositiveFloat = 600.0
    """How long a request may wait for the first byte of its answer in all; `x-request-timeout` may shorten it."""
    first_byte_timeout_s: PositiveFloat = 300.0
    """How long an engine may take until its first byte before another replica is tried."""
    idle_timeout_s: PositiveFloat = 300.0
    """How long an engine may stay silent between two bytes of an answer."""
    slow_reader_timeout_s: PositiveFloat = 60.0
    """How long a client may not read what waits for it before it is cut off."""
    receive_timeout_s: PositiveFloat = 60.0
    """How long a client may take to send an inference request, or the head of any request."""
    keep_alive_s: PositiveInt = 75
    """How long a client's connection stays open between two requests."""
    eject_s: PositiveFloat = 1.0
    """How long a replica that failed is passed over; twice as long each time that it fails again."""
    eject_longest_s: PositiveFloat = 30.0
    """Longest such pause."""
    eject_errors: PositiveInt = 3
    """So many error answers of a replica in a row count as its failure, and not as that of the requests."""
    eject_most: float = Field(default=0.5, ge=0.0, le=1.0)
    """Part of the replicas that may be passed over at a time; one always may."""
    slow_start_s: PositiveFloat = 10.0
    """How long a new replica takes less than its share, at first a tenth."""
    late_factor: float = Field(default=5.0, gt=1.0)
    """A replica whose first bytes take so many times as long as the median of its pool gets less."""
    load_bound: float = Field(default=1.25, gt=1.0)
    """So many times the average of requests in flight a replica has before its own go to the next one."""
    retry_share: float = Field(default=0.2, ge=0.0)
    """Part of the requests of the last ten seconds that may be sent once more to another replica."""
    retry_floor_per_s: NonNegativeFloat = 10.0
    """Retries a second that are allowed besides, for times of few requests."""
    room_factor: PositiveFloat = 2.0
    """Requests that each gateway may have at a replica, as a multiple of the engine's `max_batch`; more wait here."""
    queue_limit: NonNegativeInt = 1024
    """Requests that may wait at a gateway for the replicas of one pool. A key may take as many as are still free."""
    drain_timeout_s: PositiveFloat = 30.0
    """How long requests in flight may finish when a gateway or an engine stops."""
    count_tokens: bool = True
    """Have engines say the usage of streams whose client did not ask for it; for metrics and token limits."""
    max_body_bytes: PositiveInt = 8 * 1024 * 1024
    """Largest JSON body."""
    max_form_bytes: PositiveInt = 32 * 1024 * 1024
    """Largest form of an inference request, an audio file in it included."""
    max_upload_bytes: PositiveInt = 512 * 1024 * 1024
    """Largest uploaded file."""
    reconcile_s: PositiveFloat = 0.25
    """How often the controller looks at rollouts, replicas and leases."""
    heartbeat_timeout_s: PositiveFloat = 10.0
    """A replica that was not heard of for this long is gone."""
    use_report_s: PositiveFloat = 5.0
    """How often each gateway tells the registry which revisions are asked for, and by how many requests at a time."""
    rollback_window_s: PositiveFloat = 86400.0
    """How long the former stable revision stays loaded after a promotion, so that a rollback is a pointer flip."""
    observe_flush_s: PositiveFloat = 1.0
    """How often a gateway tells the registry what it counted of the rollouts that are watched."""
    feedback_window_s: PositiveFloat = 86400.0
    """How long after it was given an answer may be rated; each one of a watched rollout takes a row for this long."""
    metrics_need_key: bool = False
    """Whether `/metrics` needs a key for admin, once there are keys; else it is open to whoever reaches the port."""
    limits_url: str | None = Field(default=None, pattern=r"^rediss?://")
    """Redis in which all gateways count together what keys use of their limits; None: each gateway counts alone."""
    shadow_concurrency: PositiveInt = 1
    """How many copies of a shadow step a gateway has under way at a time, never more than one at a replica."""
    shadow_client_requests: NonNegativeInt = 0
    """How many requests of clients may be at a replica while a copy runs there; one more cuts the copy off."""
    shadow_queue: PositiveInt = 16
    """How many copies may wait at a gateway for their replica to be quiet; beyond it the oldest are left out."""
    shadow_wait_s: PositiveFloat = 60.0
    """How long a copy may wait for that before it is left out."""
    shadow_tokens_per_s: PositiveFloat = 500.0
    """How many tokens, of prompts and answers, copies and their judge may take on average at a gateway."""
    metric_names: PositiveInt = 1000
    """How many served names, by pool, have metrics of their own at a gateway; those beyond are counted as `other`."""
    metrics_wait_s: PositiveFloat = 2.0
    """How long a gateway that is asked for metrics waits for those of the others on its machine."""
    access_log_share: float = Field(default=1.0, ge=0.0, le=1.0)
    """Share of the inference requests that get a line in `logs/access.log`; those that fail get one unless it is 0."""

    @property
    def is_loopback(self) -> bool:
        """Only this machine reaches the port."""
        return self.host.is_loopback


class PoolFields(BaseModel):
    """What every pool has, in `[engines]` or in one of `[[engines.pools]]`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str = DEFAULT_KIND
    """Kind of engine, one of the catalog's. Where it is not said and there is an accelerator, `lorry up` chooses."""
    base: Path | None = None
    """Hugging Face folder of the base model; None is the bundled model."""
    engine: dict[str, Any] = Field(default_factory=dict)
    """Fields of the engine's own settings (`EngineSettings`), for example `threads` or `max_adapters`."""


class WebhookSettings(BaseModel):
    """Table `[webhooks]`: who is told of every move of a rollout."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str | None = Field(default=None, pattern=r"^https?://")
    """Address that notices are posted to; None sends none."""
    secret_env: str = "LORRY_WEBHOOK_SECRET"  # noqa: S105  the name of a variable
    """Environment variable that holds the signing secret, `whsec_` and base64 of 24 to 64 bytes."""
    timeout_s: PositiveFloat = 10.0
    """How long the receiver may take to acknowledge a notice."""
    max_attempts: PositiveInt = 8
    """How often a notice is sent before it is given up."""
    first_retry_s: PositiveFloat = 5.0
    """Pause after the first failure; each further one is four times as long."""
    max_age_s: PositiveFloat = 86400.0
    """Moves older than this are not told any more, for example those made before webhooks were switched on."""


class TraceSettings(BaseModel):
    """Table `[traces]`: where spans of inference requests go."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    endpoint: str | None = Field(default=None, pattern=r"^https?://")
    """Address of an OTLP receiver (HTTP, protobuf), `http://host:4318/v1/traces`; None sends none."""
    sample_share: float = Field(default=0.1, ge=0.0, le=1.0)
    """Share of the requests with a span, of those whose caller has not decided it by its own `traceparent`."""
    service_name: str = "lorry-gateway"
    """`service.name` of the spans."""
    headers_env: str = "LORRY_TRACES_HEADERS"
    """Environment variable with headers for the receiver, `name=value,name=value`; it may be unset."""
    timeout_s: PositiveFloat = 5.0
    """How long the receiver may take, and how long spans that are left may take when a gateway ends."""


class PoolSettings(PoolFields):
    """One of `[[engines.pools]]`: replicas alike in base model and kind."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")
    """Name of the pool."""
    min_replicas: PositiveInt = 1
    """Engine replicas at least, each with the whole base model in memory."""
    max_replicas: PositiveInt | None = None
    """Engine replicas at most; None is `min_replicas`, so that their number stays as it is."""
    target_requests: PositiveFloat = 8.0
    """Requests that should run or wait in each replica where their number may change."""
    scale_up_after_s: PositiveFloat = 10.0
    """How long more replicas must be needed before there are more."""
    scale_down_after_s: PositiveFloat = 300.0
    """How long fewer replicas must do before there are fewer."""

    @model_validator(mode="after")
    def _has_room(self) -> PoolSettings:
        if self.max_replicas is not None and self.max_replicas < self.min_replicas:
            raise ValueError(f"max_replicas {self.max_replicas} is below min_replicas {self.min_replicas}")
        return self

    @property
    def most_replicas(self) -> int:
        """Engine replicas at most."""
        return self.max_replicas or self.min_replicas


class PaceFields(BaseModel):
    """What holds for all pools."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tick_s: PositiveFloat = 0.25
    """How often a replica checks its engine, its adapters, and reports."""
    settle_s: PositiveFloat = 2.0
    """How long changes of its adapters are gathered before an engine that has them from its start is replaced."""
    replace_drain_s: PositiveFloat = 600.0
    """How long requests may finish in an engine that was replaced by one with other adapters."""


class OnePoolSettings(PaceFields, PoolFields):
    """Table `[engines]` without `[[engines.pools]]`: one pool of a fixed size."""

    replicas: PositiveInt = 1
    """Engine replicas, each with the whole base model in memory."""

    def as_pools(self) -> EnginesSettings:
        """The same, as the one pool `default`."""
        of_pool = self.model_dump(include=set(PoolFields.model_fields) & self.model_fields_set)
        pool = PoolSettings(name="default", min_replicas=self.replicas, **of_pool)
        return EnginesSettings(pools=(pool,), **self.model_dump(include=set(PaceFields.model_fields)))


class EnginesSettings(PaceFields):
    """Table `[engines]`: the pools that `lorry up` starts."""

    pools: tuple[PoolSettings, ...] = Field(min_length=1)
    """The pools."""

    @model_validator(mode="after")
    def _names_differ(self) -> EnginesSettings:
        names = [pool.name for pool in self.pools]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two pools are named {twice[0]!r}")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that `lorry up` hands to the processes it starts."""

    home: Path
    registry: RegistrySettings
    gateway: GatewaySettings
    engines: EnginesSettings
    webhooks: WebhookSettings
    traces: TraceSettings


def load_settings(overrides: Mapping[str, Mapping[str, Any]] | None = None) -> Settings:
    """Settings of this process: defaults, the file that `LORRY_CONFIG` names, then *overrides* by table.

    Raises `SettingsInvalid`.
    """
    home = lorry_home()
    config = os.environ.get("LORRY_CONFIG")
    tables = read_tables(Path(config) if config else None)
    overrides = overrides or {}
    return Settings(
        home=home,
        registry=registry_settings(tables, home),
        gateway=parse_table(
            GatewaySettings, "gateway", dict(tables.get("gateway", {})) | dict(overrides.get("gateway", {}))
        ),
        engines=engines_settings(tables.get("engines", {}), overrides.get("engines", {})),
        webhooks=parse_table(WebhookSettings, "webhooks", tables.get("webhooks", {})),
        traces=parse_table(TraceSettings, "traces", tables.get("traces", {})),
    )


def engines_settings(table: Mapping[str, Any], flags: Mapping[str, Any]) -> EnginesSettings:
    """The pools of table `[engines]` in either form, with *flags* (fields of a pool) over the only one there is.

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
