"""`python -m trainer` runs one worker in the foreground; SIGTERM or Ctrl-C give its job back at a checkpoint.

The environment names the settings file (`LORRY_CONFIG`) and the folder of all state (`LORRY_HOME`), nothing else.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path
from threading import Event

from registry.database import open_registry
from registry.disk import TRAINER, Liveness, keep_files_private
from registry.errors import RegistryError
from registry.settings import lorry_home, read_tables, registry_settings
from trainer.devices.worker_reports import reporting
from trainer.logs import log_to_stderr
from trainer.settings import trainer_settings
from trainer.worker import Worker, worker_name

log = logging.getLogger(__name__)


def main() -> int:
    """Work until asked to stop and return the exit code; 1 when settings or registry cannot be used."""
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
        return 1
    try:
        settings.work.mkdir(parents=True, exist_ok=True)
        name = worker_name()
        with reporting(registry, name, settings.device_bytes):
            Worker(registry, settings, name, Liveness(home, TRAINER)).run(stop)
    finally:
        registry.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
