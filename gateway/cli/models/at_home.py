"""Models in the registry and on the disk of this machine: pulled, verified, shown and removed without a gateway."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast, get_args

from engines.catalog import ENGINES
from engines.errors import EngineError
from gateway.cli.errors import CommandFailed
from gateway.cli.gateway_address import actor
from gateway.cli.models.pull_lines import PullLines
from gateway.cli.output import note, stderr_console
from gateway.errors import GatewayError
from gateway.models_settings import HubName
from gateway.objects.bases import BaseModelObject, BaseModelOrigin, RemovedBaseModel, VerifiedFileObject, VerifiedModel
from gateway.pools.base_objects import base_objects, base_origin, remove_base
from gateway.pools.load_tests import load_tests as load_tests_now
from gateway.pools.pull import PullGround, pull_order
from gateway.pools.pull import pull as pull_now
from gateway.settings import Settings, load_settings
from hubs.errors import HubError
from registry.contracts.quantizations.load_test_result import LoadTestResult
from registry.database import Registry, open_registry
from registry.disk import keep_files_private, make_private
from registry.errors import RegistryError
from registry.pulled.pulled_models import named_pulled
from registry.pulled.verification import verify_pulled
from registry.schema import migrate

_HUBS: Final = get_args(HubName)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Home:
    settings: Settings
    registry: Registry


def bases() -> list[BaseModelObject]:
    """Return every base model; `CommandFailed`."""
    with _home() as home:
        return base_objects(home.registry)


def origin(name: str) -> BaseModelOrigin:
    """Return one base model with what made it; `CommandFailed`."""
    with _home() as home:
        return base_origin(home.registry, name)


def pull(model: str, revision: str | None, hub: str | None) -> BaseModelOrigin:
    """Return the model, fetched from its hub unless it is here; `CommandFailed`."""
    if hub is not None and hub not in _HUBS:
        raise CommandFailed(f"--hub {hub!r} is none of {', '.join(_HUBS)}")
    with _home() as home, PullLines(stderr_console()) as lines:
        order = pull_order(model, revision, cast(HubName, hub or home.settings.models.hub), actor())
        ground = PullGround(
            registry=home.registry,
            settings=home.settings.models,
            folder=home.settings.models_folder,
            show=lines.show,
            say=lines.say,
        )
        pulled = pull_now(order, ground)
        if pulled.was_there:
            lines.say(f"{pulled.model.id} at commit {pulled.model.commit} is here already")
        return base_origin(home.registry, pulled.base.name)


def verify(name: str) -> VerifiedModel:
    """Return every file of a pulled model beside its record; `CommandFailed`."""
    with _home() as home:
        base, model = named_pulled(home.registry, name)
        total = sum(file.size_bytes for file in model.files.values()) / 1e9
        if sys.stderr.isatty():
            note(f"Hashing {total:.2f} GB")
        files = verify_pulled(Path(home.registry.at_hand(base).path), model)
        return VerifiedModel(
            name=base.name,
            digest=base.digest,
            files=[
                VerifiedFileObject(
                    path=file.path, state=file.state.value, size_bytes=file.size_bytes, sha256=file.sha256
                )
                for file in files
            ],
        )


def load_tests(name: str, kinds: Sequence[str]) -> Iterator[LoadTestResult]:
    """Yield what becomes of a checkpoint on each of *kinds*, recorded; `CommandFailed`."""
    if unknown := sorted(set(kinds) - set(ENGINES)):
        raise CommandFailed(f"--kind {unknown[0]!r} is none of {', '.join(ENGINES)}")
    with _home() as home:
        try:
            for found in load_tests_now(home.registry, home.settings, name, kinds):
                yield LoadTestResult.model_validate(found.as_json())
        except EngineError as exc:
            raise CommandFailed(str(exc)) from exc


def remove(name: str) -> RemovedBaseModel:
    """Delete a pulled model or a checkpoint; `CommandFailed` while anything uses it, pools of the settings too."""
    with _home() as home:
        pools = {pool.name: str(pool.base) for pool in home.settings.engines.pools if pool.base is not None}
        return remove_base(home.registry, name, actor(), pools)


@contextmanager
def _home() -> Iterator[_Home]:
    """Open what LORRY_HOME and LORRY_CONFIG name, migrated; errors of all that lies below become `CommandFailed`."""
    try:
        settings = load_settings()
        keep_files_private()
        make_private(settings.home)
        migrate(settings.registry.url)
        registry = open_registry(settings.registry)
        try:
            yield _Home(settings=settings, registry=registry)
        finally:
            registry.close()
    except (RegistryError, GatewayError, HubError) as exc:
        raise CommandFailed(str(exc)) from exc
    except OSError as exc:
        raise CommandFailed(f"{exc.filename}: {exc.strerror}" if exc.filename else str(exc)) from exc
