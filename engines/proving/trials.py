"""A checkpoint tried on kinds of engines of this machine, each beside the model that it was made from."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from engines.catalog import ENVIRONMENTS, NO_ADAPTERS, build_engine, kind_of
from engines.environments.record import ready_environments, ready_interpreter
from engines.errors import EngineError, EnvironmentMissing
from engines.hardware.choice import choose, engine_defaults
from engines.hardware.machine import Machine
from engines.hardware.probe import read_machine
from engines.hardware.shape import read_shape
from engines.hardware.wishes import Wishes
from engines.kinds import DEFAULT_KIND
from engines.proving.load_test import Answers, Asked, LoadTest, Outcome, answers_of, compared
from engines.settings import EngineSettings

_CONTEXT: Final = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A checkpoint, the model that it was made from, and where engines run."""

    kinds: tuple[str, ...]
    checkpoint: Path
    original: Path
    """The folder of the model in full precision."""
    adapters: Mapping[str, Path] = field(default_factory=lambda: NO_ADAPTERS)
    """The adapter that was merged into the checkpoint, where *original* is without it: name -> folder."""
    home: Path
    """`LORRY_HOME`, which has the engines' environments."""
    logs: Path
    """Folder for the output of the servers."""
    threads: int = 1


def trials(tried: Tried, read: Callable[[], Machine] = read_machine) -> Iterator[LoadTest]:
    """Yield what becomes of the checkpoint on each kind, one server at a time.

    `EngineError` where the original is not served: then there is nothing to compare with.
    """
    machine = read()
    expected: dict[str, Answers] = {}
    for kind in tried.kinds:
        found = _answers_or_why(kind, tried, machine)
        if isinstance(found, LoadTest):
            yield found
            continue
        beside = original_settings(kind, tried, machine)
        if beside.kind not in expected:
            expected[beside.kind] = asyncio.run(answers_of(Asked(settings=beside, adapters=tried.adapters)))
        yield compared(kind, found, expected[beside.kind])


def _answers_or_why(kind: str, tried: Tried, machine: Machine) -> Answers | LoadTest:
    try:
        settings = trial_settings(kind, tried.checkpoint, tried, machine)
        build_engine(settings)  # refuses what cannot be; nothing is started
    except EnvironmentMissing as exc:
        return LoadTest(kind=kind, outcome=Outcome.NOT_INSTALLED, reason=str(exc))
    except EngineError as exc:
        return LoadTest(kind=kind, outcome=Outcome.REFUSED, reason=str(exc))
    try:
        return asyncio.run(answers_of(Asked(settings=settings, adapters=NO_ADAPTERS)))
    except EngineError as exc:
        return LoadTest(kind=kind, outcome=Outcome.FAILED, reason=str(exc))


def original_settings(kind: str, tried: Tried, machine: Machine) -> EngineSettings:
    """Return the engine that serves the original: our own, or one of *kind* for models that ours does not serve."""
    own = trial_settings(DEFAULT_KIND, tried.original, tried, machine, places=len(tried.adapters))
    try:
        build_engine(own, tried.adapters)
    except EngineError:
        return trial_settings(kind, tried.original, tried, machine, places=len(tried.adapters))
    return own


def trial_settings(kind: str, folder: Path, tried: Tried, machine: Machine, places: int = 0) -> EngineSettings:
    """Return the settings of the engine to try; on accelerators that it is made for, with what suits them.

    `EnvironmentMissing`; `DoesNotFit`, `ModelUnreadable`.
    """
    known: dict[str, Any] = {
        "kind": kind,
        "base_path": folder,
        "base_name": "trial",
        "log_path": tried.logs / f"load-test-{kind}.log",
        "max_context": _CONTEXT,
        "max_adapters": places,
        "threads": tried.threads,
    }
    if kind in ENVIRONMENTS:
        known["interpreter"] = ready_interpreter(tried.home, kind)
    group = machine.largest_group()
    if not group or group[0].vendor not in kind_of(kind).hardware.vendors:
        return EngineSettings(**known)
    wishes = Wishes(kind=kind, adapters=places, ready=ready_environments(tried.home))
    return EngineSettings(**(engine_defaults(choose(machine, read_shape(folder), wishes)) | known))
