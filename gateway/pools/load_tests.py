"""Load tests of a checkpoint on this machine, recorded in its provenance."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from engines.catalog import NO_ADAPTERS
from engines.errors import EngineError
from engines.kinds import DEFAULT_KIND
from engines.proving.load_test import Asked, LoadTest, load_test
from engines.settings import EngineSettings
from gateway.engines_settings import PoolSettings
from gateway.pools.pools import engine_settings
from gateway.settings import Settings
from registry.database import Registry
from registry.errors import Conflict
from registry.types import Base


def load_tests(registry: Registry, settings: Settings, name: str, kinds: Sequence[str]) -> Iterator[LoadTest]:
    """Yield the load test of checkpoint *name* on each of *kinds*, recorded; without any, on those of the pools.

    Raises `NotFound`; `Conflict` for what no job made; `EngineError` where what it was made from is not served.
    """
    base = registry.bases.get(name)
    if base.parent is None:
        raise Conflict(f"{name!r} is not a checkpoint: there is no model that a job made it from to compare with")
    adapters = _merged(registry, base)
    parent = _engine(settings, DEFAULT_KIND, registry.bases.get(base.parent), places=len(adapters))
    original = Asked(settings=parent, adapters=adapters)
    for kind in kinds or sorted({pool.kind for pool in settings.engines.pools}):
        try:
            checkpoint = Asked(settings=_engine(settings, kind, base), adapters=NO_ADAPTERS)
        except EngineError as exc:
            found = LoadTest(kind=kind, is_served=False, reason=str(exc))
        else:
            found = asyncio.run(load_test(checkpoint, original))
        registry.bases.note_load_test(name, kind, found.as_json())
        yield found


def _engine(settings: Settings, kind: str, base: Base, places: int = 0) -> EngineSettings:
    log = settings.home / "logs" / f"load-test-{kind}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    pool = PoolSettings(name="load-test", kind=kind, engine={"max_adapters": places, "max_context": 512})
    return engine_settings(pool, settings.home, base).model_copy(update={"log_path": log})


def _merged(registry: Registry, base: Base) -> Mapping[str, Path]:
    """Return the adapter that was merged into *base*, by its name; none where none was."""
    adapter = base.provenance.get("adapter")
    if not isinstance(adapter, dict):
        return NO_ADAPTERS
    return {str(adapter["name"]): registry.artifacts.folder(str(adapter["artifact"]))}
