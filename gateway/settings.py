"""Knobs of the gateway and of the pool that it starts; the whole of the settings file put together."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt

from registry.settings import RegistrySettings, lorry_home, parse_table, read_tables, registry_settings

BUNDLED_BASE: Final = "smollm2-135m-instruct"
"""Name of the base model that comes with Lorry."""


class GatewaySettings(BaseModel):
    """Table `[gateway]`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: Literal["127.0.0.1"] = "127.0.0.1"
    """Address to listen on. Without keys only loopback is served."""
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
    idle_timeout_s: PositiveFloat = 300.0
    """How long an engine may stay silent, before the first byte and between two."""
    eject_s: PositiveFloat = 1.0
    """How long a replica that failed is passed over."""
    drain_timeout_s: PositiveFloat = 30.0
    """How long requests in flight may finish when a gateway or an engine stops."""
    max_body_bytes: PositiveInt = 8 * 1024 * 1024
    """Largest JSON body."""
    max_upload_bytes: PositiveInt = 512 * 1024 * 1024
    """Largest uploaded file."""
    reconcile_s: PositiveFloat = 0.25
    """How often the controller looks at rollouts, replicas and leases."""
    heartbeat_timeout_s: PositiveFloat = 10.0
    """A replica that was not heard of for this long is gone."""
    rollback_window_s: PositiveFloat = 86400.0
    """How long the former stable revision stays loaded after a promotion, so that a rollback is a pointer flip."""
    observe_flush_s: PositiveFloat = 1.0
    """How often a gateway tells the registry what it counted of the rollouts that are watched."""
    feedback_window_s: PositiveFloat = 86400.0
    """How long after it was given an answer may be rated; each one of a watched rollout takes a row for this long."""
    shadow_concurrency: PositiveInt = 1
    """How many copies of a shadow step a gateway has under way at a time; others are dropped, not queued."""
    shadow_client_requests: NonNegativeInt = 1
    """A copy is dropped while its replica answers more requests of this gateway's clients than this."""
    shadow_tokens_per_s: PositiveFloat = 500.0
    """How many tokens, of prompts and answers, copies and their judge may take on average at a gateway."""


class PoolSettings(BaseModel):
    """Table `[engines]`: the pool that `lorry up` starts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str = "transformers"
    """Kind of engine, one of the catalog's."""
    base: Path | None = None
    """Hugging Face folder of the base model; None is the bundled model."""
    replicas: PositiveInt = 1
    """Engine replicas, each with the whole base model in memory."""
    tick_s: PositiveFloat = 0.25
    """How often a replica checks its engine, its adapters, and reports."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that `lorry up` hands to the processes it starts."""

    home: Path
    registry: RegistrySettings
    gateway: GatewaySettings
    engines: PoolSettings
    webhooks: WebhookSettings


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
        engines=parse_table(
            PoolSettings, "engines", dict(tables.get("engines", {})) | dict(overrides.get("engines", {}))
        ),
        webhooks=parse_table(WebhookSettings, "webhooks", tables.get("webhooks", {})),
    )
