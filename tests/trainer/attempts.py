"""Workers that make attempts at jobs, and what is seen of an attempt."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import psutil

from gateway.openai.job_request import build_spec
from gateway.openai.types import CreateJob
from registry.contracts.fine_tune_spec import FineTuneSpec
from registry.database import Registry
from registry.disk import Liveness
from registry.jobs.job import Job
from tests.kills.asked import Trained
from tests.kills.phases import FORK
from tests.waiting import wait_for
from trainer.checkpoints import ATTEMPTS, CHECKPOINTS, SEAL
from trainer.settings import TrainerSettings
from trainer.worker import Worker

MakeJob = Callable[..., Job]
LONG = {"n_epochs": 50, "checkpoint_steps": 10}
"""Long enough to be interrupted, short enough to end soon."""
LONG_STEPS = 150
TIMEOUT_S = 480.0


def queue(registry: Registry, kind: Trained, **changes: Any) -> Job:
    """Queue a job of *kind* as the gateway does; *changes* are further hyperparameters."""
    return registry.jobs.create(spec_of(registry, kind, **changes), "ann")


def spec_of(registry: Registry, kind: Trained, **changes: Any) -> FineTuneSpec:
    """Return the spec of a job of *kind* on an uploaded file."""
    file = registry.files.add([kind.lines()], filename="rows.jsonl", purpose="fine-tune", owner="ann")
    body = replace(kind, hyperparameters={**kind.hyperparameters, **changes}).body(file.id)
    return build_spec(CreateJob.model_validate(body), registry)


@contextmanager
def working(registry: Registry, settings: TrainerSettings) -> Iterator[tuple[Future[bool], Event]]:
    """Have a worker make one attempt beside the block; setting the event asks it to stop."""
    stop = Event()
    with ThreadPoolExecutor(1) as pool:
        attempt = pool.submit(Worker(registry, settings, "w1", Liveness(settings.work.parent, "w1")).work_once, stop)
        try:
            yield attempt, stop
        finally:
            stop.set()


@contextmanager
def worker_process(home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run `python -m trainer` on the registry in *home*, with a lease that runs out soon."""
    config = home / "lorry.toml"
    config.write_text("[trainer]\nlease_s = 2.0\npoll_s = 0.1\n")
    environment = os.environ | {"LORRY_HOME": str(home), "LORRY_CONFIG": str(config)}
    worker = subprocess.Popen([sys.executable, "-m", "trainer"], env=environment, stderr=subprocess.DEVNULL)
    try:
        yield worker
    finally:
        worker.kill()
        worker.wait()


def work(registry: Registry, settings: TrainerSettings) -> None:
    """Make one attempt, to its end."""
    assert Worker(registry, settings, "w1", Liveness(settings.work.parent, "w1")).work_once(Event())


def training_children(worker: psutil.Process) -> list[psutil.Process]:
    """Return the training children of a worker's process, which may have other children too."""
    return [child for child in worker.children() if is_training(child)]


def is_training(process: psutil.Process) -> bool:
    """Return whether *process* is a training child that runs."""
    with suppress(psutil.Error):
        return process.name() == FORK or any(part.startswith("trainer.child") for part in process.cmdline())
    return False


@contextmanager
def suspended(worker: psutil.Process, folder: Path, after: int = 0) -> Iterator[psutil.Process]:
    """Suspend the training child once it has stored a checkpoint of a step later than *after* in the job's *folder*.

    The folder is watched rather than the registry, which lags behind on a busy machine: the child may have ended by
    the time that the registry has its checkpoint, and nothing would be left to interrupt.
    """
    (child,) = wait_for(lambda: training_children(worker), TIMEOUT_S)
    wait_for(lambda: stored_step(folder) > after, TIMEOUT_S)
    child.suspend()
    try:
        yield child
    finally:
        with suppress(psutil.NoSuchProcess):
            child.resume()


def stored_step(folder: Path) -> int:
    """Return the step of the latest whole checkpoint in a job's folder, 0 if there is none."""
    sealed = (path.parent.name for path in folder.glob(f"{ATTEMPTS}/{CHECKPOINTS}/{SEAL}"))
    return max((int(name.rpartition("-")[2]) for name in sealed), default=0)


def loss_curve(registry: Registry, job_id: str) -> dict[int, float]:
    """Return step -> loss; every report of a step must be the same."""
    curve: dict[int, float] = {}
    for event in registry.jobs.events(job_id, limit=1000):
        if event.type == "metrics":
            step, loss = event.data["step"], event.data["train_loss"]
            assert curve.setdefault(step, loss) == loss
    return curve


def messages(registry: Registry, job_id: str) -> list[str]:
    """Return the messages of the job's events without those of steps, oldest first."""
    events = registry.jobs.events(job_id, limit=1000)[::-1]
    return [event.message for event in events if event.type == "message"]
