"""The first things that every process of a trainer opens: log, settings, registry."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from registry.database import Registry, open_registry
from registry.disk import keep_files_private
from registry.errors import RegistryError
from registry.settings import lorry_home, read_tables, registry_settings
from trainer.logs import log_to_stderr
from trainer.settings import TrainerSettings, trainer_settings

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenTrainer:
    """A process of a trainer, ready to work."""

    home: Path
    settings: TrainerSettings
    registry: Registry
    stop: Event
    """Set by SIGTERM and by Ctrl-C."""


@contextmanager
def opened() -> Iterator[OpenTrainer | None]:
    """Open settings and registry as the environment names them; None, and a line in the log, where that fails."""
    log_to_stderr()
    keep_files_private()
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    config = os.environ.get("LORRY_CONFIG")
    try:
        home = lorry_home()
        tables = read_tables(Path(config) if config else None)
        settings = trainer_settings(tables, home, os.environ)
        registry = open_registry(registry_settings(tables, home))
    except RegistryError as exc:
        log.error("the trainer cannot start", extra={"error": str(exc)})
        yield None
        return
    try:
        settings.work.mkdir(parents=True, exist_ok=True)
        yield OpenTrainer(home=home, settings=settings, registry=registry, stop=stop)
    finally:
        registry.close()
