"""Load tests of a checkpoint on this machine, recorded in its provenance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from engines.catalog import NO_ADAPTERS
from engines.proving.load_test import LoadTest
from engines.proving.trials import Tried, trials
from gateway.settings import Settings
from registry.database import Registry
from registry.errors import Conflict
from registry.types import Base


def load_tests(registry: Registry, settings: Settings, name: str, kinds: Sequence[str]) -> Iterator[LoadTest]:
    """Yield the load test of checkpoint *name* on each of *kinds*, recorded; without any, on those of the pools.

    Raises `NotFound`; `Conflict` for what no job made; `EngineError` where what it was made from is not served.
    """
    base = registry.at_hand(registry.bases.get(name))
    if base.parent is None:
        raise Conflict(f"{name!r} is not a checkpoint: there is no model that a job made it from to compare with")
    tried = Tried(
        kinds=tuple(kinds or sorted({pool.kind for pool in settings.engines.pools})),
        checkpoint=Path(base.path),
        original=Path(registry.at_hand(registry.bases.get(base.parent)).path),
        adapters=_merged(registry, base),
        home=settings.home,
        logs=settings.home / "logs",
    )
    for found in trials(tried):
        registry.bases.note_load_test(name, found.kind, found.as_json())
        yield found


def _merged(registry: Registry, base: Base) -> Mapping[str, Path]:
    """Return the adapter that was merged into *base*, by its name; none where none was."""
    adapter = base.provenance.get("adapter")
    if not isinstance(adapter, dict):
        return NO_ADAPTERS
    return {str(adapter["name"]): registry.artifacts.folder(str(adapter["artifact"]))}
