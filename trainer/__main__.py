"""`python -m trainer` runs a worker for each accelerator, or one for the machine; SIGTERM or Ctrl-C give jobs back.

The environment names the settings file (`LORRY_CONFIG`) and the folder of all state (`LORRY_HOME`), nothing else.
"""

from __future__ import annotations

import sys
from threading import Thread

from registry.disk import TRAINER, Liveness
from trainer.devices.job_device import JobDevice, find_devices
from trainer.devices.worker_reports import reporting
from trainer.placed.opening import OpenTrainer, opened
from trainer.worker import Worker, worker_name


def main() -> int:
    """Work until asked to stop and return the exit code; 1 when settings or registry cannot be used."""
    with opened() as trainer:
        if trainer is None:
            return 1
        first, *further = find_devices(trainer.settings.device_bytes)
        threads = [
            Thread(target=_work, args=(trainer, device, f"-{number}"), name=f"device-{number}")
            for number, device in enumerate(further, start=1)
        ]
        for thread in threads:
            thread.start()
        try:
            _work(trainer, first, "")
        finally:
            trainer.stop.set()
            for thread in threads:
                thread.join()
    return 0


def _work(trainer: OpenTrainer, device: JobDevice, ending: str) -> None:
    """Work on *device* until asked to stop; *ending* tells the workers of this process apart."""
    name, liveness = f"{worker_name(trainer.home)}{ending}", Liveness(trainer.home, f"{TRAINER}{ending}")
    liveness.forget()
    with reporting(trainer.registry, name, device):
        Worker(trainer.registry, trainer.settings, name, liveness, device.visible).run(trainer.stop)


if __name__ == "__main__":
    sys.exit(main())
