"""Settings of the gateway, of webhooks and of traces; reading of the whole settings file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    ConfigDict,
    Field,
    IPvAnyAddress,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

from gateway.engines_settings import EnginesSettings, engines_settings
from gateway.foreign_pages import HostName
from gateway.models_settings import ModelsSettings
from gateway.origins import Origin
from registry.settings import RegistrySettings, lorry_home, parse_table, read_tables, registry_settings
from registry.wording.field_faults import written_as
from registry.wording.known_fields import KnownFields

RedisAddress = Annotated[str, written_as(r"rediss?://.+", "an address that begins with redis:// or rediss://")]
HttpAddress = Annotated[str, written_as(r"https?://.+", "an address that begins with http:// or https://")]


class GatewaySettings(KnownFields):
    """Table `[gateway]`: the gateway processes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: IPvAnyAddress = IPv4Address("127.0.0.1")
    """IP address to listen on, `0.0.0.0` for all of IPv4. Without API keys only a loopback address is allowed."""
    port: int = Field(default=8080, ge=1, le=65535)
    """Port of the OpenAI and the admin API."""
    cors_origins: tuple[Origin, ...] = ()
    """Origins of web pages that may use the gateway, such as `http://localhost:5173`; `*` allows every page."""
    allowed_hosts: tuple[HostName, ...] = ()
    """Names by which requests may reach this machine, besides its own; for the time without keys and for `/admin`."""
    replicas: PositiveInt = 2
    """Gateway processes on that port; with a single one, its replacement leaves seconds without a listener."""
    max_replicas_per_node: PositiveInt | None = None
    """Most of them on one node of a cluster, so that they are on several; None lets Ray place them as it likes."""
    controllers: PositiveInt = 1
    """Controllers, each on a node of its own; a second one goes on where a node is cut off from the registry."""
    resources: dict[str, NonNegativeFloat] = Field(default_factory=dict)
    """Ray resources that each gateway, and each controller, take of a node; nodes without them get none."""
    route_refresh_s: PositiveFloat = 0.25
    """How often each gateway reads the registry. A promotion or rollback is in force everywhere one reading later."""
    stale_after_s: PositiveFloat = 60.0
    """For how long `/readyz` answers 200 while the registry cannot be read; requests are answered all the time."""
    replica_wait_s: PositiveFloat = 60.0
    """How long a request waits before 503 where its base has no replica, or where a replica refused its revision."""
    cold_start_wait_s: PositiveFloat = 300.0
    """How long a request waits before 503 for the first replica of a pool that sleeps (`min_replicas = 0`)."""
    connect_timeout_s: PositiveFloat = 2.0
    """How long connecting to an engine may take before another replica is tried."""
    request_timeout_s: PositiveFloat = 600.0
    """How long a request may wait in total for the first byte of its answer; `x-request-timeout` may shorten it."""
    first_byte_timeout_s: PositiveFloat = 300.0
    """How long an engine may take until its first byte before another replica is tried."""
    idle_timeout_s: PositiveFloat = 300.0
    """How long an engine may stay silent between two bytes of an answer."""
    slow_reader_timeout_s: PositiveFloat = 60.0
    """How long a client may not read while bytes wait for it, before its connection is closed."""
    receive_timeout_s: PositiveFloat = 60.0
    """How long a client may take to send a request, or the next part of an upload."""
    keep_alive_s: PositiveInt = 75
    """How long a client's connection stays open between two requests."""
    eject_s: PositiveFloat = 1.0
    """How long a replica that failed gets no requests (is ejected); each further failure doubles this time."""
    eject_longest_s: PositiveFloat = 30.0
    """Longest time for which a failed replica is ejected."""
    eject_errors: PositiveInt = 3
    """Number of error answers in a row after which the replica counts as failed, instead of the requests."""
    eject_most: float = Field(default=0.5, ge=0.0, le=1.0)
    """Largest share of the replicas that may be ejected at a time; one replica always may be."""
    slow_start_s: PositiveFloat = 10.0
    """How long a new replica gets less than its share of the requests, a tenth of it at first."""
    late_factor: float = Field(default=5.0, gt=1.0)
    """Multiple of the pool's median time to the first byte above which a replica gets fewer requests."""
    load_bound: float = Field(default=1.25, gt=1.0)
    """Multiple of the average number of requests in flight above which a replica's requests go to the next replica."""
    retry_share: float = Field(default=0.2, ge=0.0)
    """Share of the requests of the last ten seconds that may be sent again to another replica."""
    retry_floor_per_s: NonNegativeFloat = 10.0
    """Retries per second that are allowed in addition, for times of few requests."""
    room_factor: PositiveFloat = 2.0
    """Requests that each gateway sends to a replica at a time, as a multiple of the engine's `max_batch`."""
    queue_limit: NonNegativeInt = 1024
    """Requests that may wait at a gateway for the replicas of one pool. A key may use as many places as are free."""
    drain_timeout_s: PositiveFloat = 30.0
    """How long requests in flight may finish when a gateway or an engine stops."""
    count_tokens: bool = True
    """Ask engines for the usage of streams whose client did not ask for it; metrics and token limits need it."""
    low_disk_bytes: PositiveInt | None = None
    """Free bytes of a disk below which `lorry status` names it; if left out 2 GB, or 5 % of the disk up to 20 GB."""
    store_responses: bool = True
    """Store the answers of `/v1/responses`, unless a request says `store: false`; see `[registry] response_days`."""
    max_body_bytes: PositiveInt = 8 * 1024 * 1024
    """Largest JSON body."""
    max_form_bytes: PositiveInt = 32 * 1024 * 1024
    """Largest form of an inference request, including an audio file in it."""
    max_upload_bytes: PositiveInt = 512 * 1024 * 1024
    """Largest uploaded file; also the largest adapter, unpacked and once normalised."""
    max_pending_uploads: PositiveInt = 8
    """Uploads in parts that a tenant may have unfinished, each of at most `max_upload_bytes`; one lasts an hour."""
    max_open_batches: PositiveInt = 100
    """Batches that may be open for each key at a time: validating, in progress, finalizing or cancelling."""
    batch_share: float = Field(default=0.5, gt=0.0, le=1.0)
    """Largest share of a pool's places (`max_batch` of its engines) that batches use while no client is there."""
    batch_share_beside_clients: float = Field(default=0.125, gt=0.0, le=1.0)
    """The same while clients are there, and ten seconds longer; each further place slows their answers down."""
    reconcile_s: PositiveFloat = 0.25
    """How often the controller looks at rollouts, replicas and leases."""
    heartbeat_timeout_s: PositiveFloat = 10.0
    """How long a replica may send no heartbeat before it counts as gone."""
    give_way_after_s: float = Field(default=60.0, ge=0.0)
    """How long a training job runs at least before it may be stopped at a checkpoint for one of a higher priority."""
    give_way_left_s: float = Field(default=120.0, ge=0.0)
    """A job that is expected to end within this time gives way to no other."""
    use_report_s: PositiveFloat = 5.0
    """How often each gateway reports to the registry which revisions are requested, and how many requests at a time."""
    rollback_window_s: PositiveFloat = 86400.0
    """How long the former stable revision stays loaded after a promotion, so that a rollback is a pointer flip."""
    observe_flush_s: PositiveFloat = 1.0
    """How often a gateway reports to the registry what it counted for the rollouts that are watched."""
    feedback_window_s: PositiveFloat = 86400.0
    """How long an answer may be rated; each answer takes a row in the registry for this long."""
    feedback_answers: PositiveInt = 100_000
    """How many answers of each tenant may be rated at a time, and how many ratings of it are kept; the newest are."""
    feedback_chats_s: PositiveFloat = 2592000.0
    """How long the chat that came with a rating is kept; the rating itself is kept longer."""
    metrics_need_key: bool = True
    """Whether `/metrics` needs a key (scope `metrics` or `admin`) once there are keys; it names every adapter."""
    limits_url: (
        Annotated[str, written_as(r"rediss?://.+", "an address that begins with redis:// or rediss://")] | None
    ) = None
    """Redis in which all gateways count what keys use of their limits; with None each gateway counts alone."""
    shadow_concurrency: PositiveInt = 1
    """How many copies of a shadow step a gateway sends at a time, never more than one to each replica."""
    shadow_client_requests: NonNegativeInt = 0
    """How many client requests may be at a replica while a copy runs there; one more aborts the copy."""
    shadow_queue: PositiveInt = 16
    """How many copies may wait at a gateway for a quiet replica; beyond that the oldest copies are dropped."""
    shadow_wait_s: PositiveFloat = 60.0
    """How long a copy may wait for a quiet replica before it is dropped."""
    shadow_tokens_per_s: PositiveFloat = 500.0
    """How many tokens per second (prompts and answers) copies and their judge may use on average at a gateway."""
    metric_names: PositiveInt = 1000
    """How many served names, by pool, have their own metrics at a gateway; further names are counted as `other`."""
    metrics_wait_s: PositiveFloat = 2.0
    """How long a gateway that is asked for metrics waits for the other gateways on its machine."""
    access_log_share: float = Field(default=1.0, ge=0.0, le=1.0)
    """Share of the inference requests that are logged in `logs/access.log`; failed requests are, unless it is 0."""

    @property
    def is_loopback(self) -> bool:
        """True when only this machine reaches the port."""
        return self.host.is_loopback


class WebhookSettings(KnownFields):
    """Table `[webhooks]`: the receiver of a notice for every move of a rollout and every end of a fine-tuning job."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: HttpAddress | None = None
    """Address to which notices are posted; with None no notices are sent."""
    secret_env: str = "LORRY_WEBHOOK_SECRET"  # noqa: S105  the name of a variable
    """Environment variable that holds the signing secret, `whsec_` and base64 of 24 to 64 bytes."""
    timeout_s: PositiveFloat = 10.0
    """How long the receiver may take to acknowledge a notice."""
    max_attempts: PositiveInt = 8
    """How often a notice is sent before the gateway gives it up."""
    first_retry_s: PositiveFloat = 5.0
    """Pause after the first failure; each further pause is four times as long."""
    max_age_s: PositiveFloat = 86400.0
    """Age above which a move or an end is not sent any more, for example one from before webhooks were switched on."""


class TraceSettings(KnownFields):
    """Table `[traces]`: where spans of inference requests go."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    endpoint: HttpAddress | None = None
    """Address of an OTLP receiver (HTTP, protobuf), `http://host:4318/v1/traces`; with None no spans are sent."""
    sample_share: float = Field(default=0.1, ge=0.0, le=1.0)
    """Share of the requests with a span, among requests whose `traceparent` does not decide it."""
    service_name: str = "lorry-gateway"
    """`service.name` of the spans."""
    headers_env: str = "LORRY_TRACES_HEADERS"
    """Environment variable with headers for the receiver, `name=value,name=value`; it may be unset."""
    timeout_s: PositiveFloat = 5.0
    """How long the receiver may take; also how long a stopping gateway may take to send its last spans."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that `lorry up` hands to the processes it starts."""

    home: Path
    registry: RegistrySettings
    gateway: GatewaySettings
    engines: EnginesSettings
    webhooks: WebhookSettings
    traces: TraceSettings
    models: ModelsSettings = field(default_factory=ModelsSettings)

    @property
    def models_folder(self) -> Path:
        """The folder of pulled models."""
        return (self.models.folder or self.home / "models").expanduser().absolute()


Tables = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsSource:
    """The tables of a settings file, as plain values that travel to other machines of a cluster.

    The process that reads them adds what is its machine's own: the folder of all state, and variables with secrets.
    """

    tables: Tables
    flags: Tables = field(default_factory=dict)
    """Fields that go over those of the tables."""
    home: Path | None = None
    """Folder of all state; None is the folder that the environment of the reading process names."""

    def load(self) -> Settings:
        """Return the settings of this process. Raises `SettingsInvalid`."""
        home, tables, flags = self.home or lorry_home(), self.tables, self.flags
        gateway = dict(tables.get("gateway", {})) | dict(flags.get("gateway", {}))
        return Settings(
            home=home,
            registry=registry_settings(tables, home),
            gateway=parse_table(GatewaySettings, "gateway", gateway),
            engines=engines_settings(tables.get("engines", {}), flags.get("engines", {})),
            webhooks=parse_table(WebhookSettings, "webhooks", tables.get("webhooks", {})),
            traces=parse_table(TraceSettings, "traces", tables.get("traces", {})),
            models=parse_table(ModelsSettings, "models", tables.get("models", {})),
        )


def configured(flags: Tables | None = None) -> SettingsSource:
    """Return the tables of the file that `LORRY_CONFIG` names, and *flags* over them. Raises `SettingsInvalid`."""
    config = os.environ.get("LORRY_CONFIG")
    return SettingsSource(tables=read_tables(Path(config) if config else None), flags=flags or {})


def load_settings(flags: Tables | None = None) -> Settings:
    """Return the settings: defaults, the file that `LORRY_CONFIG` names, then *flags* by table.

    Raises `SettingsInvalid`.
    """
    return configured(flags).load()
