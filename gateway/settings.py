"""Knobs of the gateway and of the pool that it starts; the whole of the settings file put together."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

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


class PoolSettings(BaseModel):
    """Table `[engines]`: the pool that `lorry up` starts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str = "transformers"
    """Kind of engine, one of the catalog's. Where it is not said and there is an accelerator, `lorry up` chooses."""
    base: Path | None = None
    """Hugging Face folder of the base model; None is the bundled model."""
    replicas: PositiveInt = 1
    """Engine replicas, each with the whole base model in memory."""
    tick_s: PositiveFloat = 0.25
    """How often a replica checks its engine, its adapters, and reports."""
    engine: dict[str, Any] = Field(default_factory=dict)
    """Fields of the engine's own settings (`EngineSettings`), for example `threads` or `max_adapters`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that `lorry up` hands to the processes it starts."""

    home: Path
    registry: RegistrySettings
    gateway: GatewaySettings
    engines: PoolSettings


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
    )
