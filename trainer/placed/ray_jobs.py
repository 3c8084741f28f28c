"""Jobs in actors of a Ray cluster. The actors are not detached: Ray ends them with the process that placed them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import ray
from ray.exceptions import RayError

from registry.jobs.job import Job
from registry.jobs.scheduling.room import TrainerWorker
from trainer.placed.job_actor import JobActor
from trainer.placed.resources import Cluster, node_workers, resources_of
from trainer.settings import TrainerSettings

SOURCES: Final = Path(__file__).parents[2]
PASSED_ON: Final = ("LORRY_HOME", "LORRY_CONFIG", "LORRY_URL", "LORRY_API_KEY")
"""Variables of the placing process that workers on nodes have too."""


class RayJob:
    """A job in its actor."""

    def __init__(self, actor: Any, job_id: str) -> None:
        self._actor = actor  # Ray ends an actor that nobody refers to
        self._node = actor.node.remote()
        self._result = actor.run.remote(job_id, {name: os.environ[name] for name in PASSED_ON if name in os.environ})

    def has_begun(self) -> bool:
        """Return whether Ray has placed the actor."""
        return bool(ray.wait([self._node], timeout=0)[0])

    def has_ended(self) -> bool:
        """Return whether the worker has ended, or its actor is lost."""
        return bool(ray.wait([self._result], timeout=0)[0])

    def stop(self) -> None:
        """Have the job stop at a checkpoint."""
        self._actor.stop.remote()

    def withdraw(self) -> None:
        """End the actor."""
        ray.kill(self._actor)


class RayCluster:
    """The cluster at an address, to which this process is connected."""

    def __init__(self, settings: TrainerSettings) -> None:
        """Connect; raises `ConnectionError`."""
        self._placement = settings.placement
        try:
            # Ray's workers look for code in the folder that is current now, before all others: no other checkout.
            with contextlib.chdir(SOURCES):
                ray.init(address=settings.ray_address, log_to_driver=False, logging_level="ERROR")
        except (RayError, RuntimeError, ValueError) as exc:
            raise ConnectionError(f"the Ray cluster at {settings.ray_address} cannot be reached: {exc}") from exc
        has_gpus = bool(ray.cluster_resources().get("GPU", 0))
        self._facts = Cluster(threads=settings.threads, has_gpus=has_gpus, gpu_bytes=settings.device_bytes)

    def workers(self) -> Sequence[TrainerWorker]:
        """Return the nodes that are alive."""
        return node_workers(ray.nodes(), self._facts)

    def place(self, job: Job) -> RayJob:
        """Ask Ray for an actor with what the job needs."""
        options: dict[str, float] = resources_of(job.needed_bytes, self._facts)
        if job.spec.process_count() > 1 and self._placement == "ray":
            # The job's own placement group has the places of all of its processes.
            options = {"num_cpus": 0}
        # The second thread is for `stop`, while the first one waits for the worker.
        actor = ray.remote(JobActor).options(**options, max_concurrency=2, max_restarts=0).remote()
        return RayJob(actor, job.id)

    def close(self) -> None:
        """Disconnect, which ends what is left."""
        ray.shutdown()
