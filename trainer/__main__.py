"""`python -m trainer` runs one worker in the foreground; SIGTERM or Ctrl-C give its job back at a checkpoint.

The environment names the settings file (`LORRY_CONFIG`) and the folder of all state (`LORRY_HOME`), nothing else.
"""

from __future__ import annotations

import sys

from registry.disk import TRAINER, Liveness
from trainer.devices.worker_reports import reporting
from trainer.placed.opening import opened
from trainer.worker import Worker, worker_name


def main() -> int:
    """Work until asked to stop and return the exit code; 1 when settings or registry cannot be used."""
    with opened() as trainer:
        if trainer is None:
            return 1
        name = worker_name()
        with reporting(trainer.registry, name, trainer.settings.device_bytes):
            Worker(trainer.registry, trainer.settings, name, Liveness(trainer.home, TRAINER)).run(trainer.stop)
    return 0


if __name__ == "__main__":
    sys.exit(main())
