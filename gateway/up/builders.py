"""Builders of Serve applications, for `serve deploy` and KubeRay's RayService: `import_path: gateway.up.builders:...`.

Ray calls a builder on one node of the cluster. A fault becomes the message of an application that failed to deploy.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import ConfigDict, ValidationError
from ray.serve import Application

from gateway.errors import StartFailed
from gateway.settings import Settings, SettingsSource
from gateway.up.applications import controller_application, engines_application, gateway_application
from gateway.up.cluster.checks import check_cluster
from gateway.up.cluster.node_pool import pool_named
from registry.schema import migrate
from registry.settings import read_tables
from registry.wording.field_faults import fault_in
from registry.wording.known_fields import KnownFields


class ApplicationArgs(KnownFields):
    """`args` of the applications of gateways and controller."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    config: Path
    """Settings file, a path on every node that may build the application."""


class EnginesArgs(ApplicationArgs):
    """`args` of an application of engines."""

    pool: str | None = None
    """Name of the pool; None is every pool of the settings in this one application."""


Args = TypeVar("Args", bound=ApplicationArgs)


def gateway_app(args: dict[str, Any]) -> Application:
    """Return the application of the gateways; `StartFailed`, `RegistryError` with what is wrong."""
    source, settings = _opened(_parsed(ApplicationArgs, args))
    return gateway_application(source, settings, {})


def controller_app(args: dict[str, Any]) -> Application:
    """Return the application of the controller; `StartFailed`, `RegistryError` with what is wrong."""
    source, settings = _opened(_parsed(ApplicationArgs, args))
    return controller_application(source, settings, {})


def engines_app(args: dict[str, Any]) -> Application:
    """Return the application of one pool's engines, or of all pools'; `StartFailed`, `RegistryError`."""
    asked = _parsed(EnginesArgs, args)
    source, settings = _opened(asked)
    pools = settings.engines.pools if asked.pool is None else (pool_named(settings, asked.pool),)
    return engines_application(source, settings, pools, {})


def _parsed(model: type[Args], args: dict[str, Any]) -> Args:
    try:
        return model.model_validate(args)
    except ValidationError as exc:
        raise StartFailed(f"args of the application: {fault_in(args, exc).sentence}") from exc


def _opened(args: ApplicationArgs) -> tuple[SettingsSource, Settings]:
    """Return the settings, good for a cluster, with the registry at the schema of this Lorry."""
    source = SettingsSource(tables=read_tables(args.config))
    settings = source.load()
    check_cluster(source, settings)
    migrate(settings.registry.url)
    return source, settings
