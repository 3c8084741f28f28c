"""Resources that a job needs of a node of a Ray cluster, and those that nodes have. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from registry.jobs.scheduling.room import TrainerWorker
from trainer.placed.job_actor import node_worker

_PARTS: Final = 100
"""A GPU is given away in hundredths; Ray counts in ten-thousandths, and rounds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """The facts of a cluster that places follow from."""

    threads: int
    """CPUs of each job."""
    has_gpus: bool
    gpu_bytes: int | None
    """Memory of each GPU; None where that is not known, and every job takes a whole one."""


def resources_of(needed_bytes: int | None, cluster: Cluster) -> dict[str, float]:
    """Return the options of the actor for a job: CPUs, and a part of a GPU or an amount of a node's memory."""
    options: dict[str, float] = {"num_cpus": cluster.threads}
    if cluster.has_gpus:
        options["num_gpus"] = 1.0
        if needed_bytes is not None and cluster.gpu_bytes is not None:
            options["num_gpus"] = min(1.0, math.ceil(_PARTS * needed_bytes / cluster.gpu_bytes) / _PARTS)
    elif needed_bytes is not None:
        options["memory"] = needed_bytes
    return options


def node_workers(nodes: Iterable[Mapping[str, Any]], cluster: Cluster) -> list[TrainerWorker]:
    """Return the nodes that can have jobs, as workers, from what `ray.nodes()` returns."""
    workers = []
    for node in nodes:
        has = node["Resources"]
        places = int(has.get("CPU", 0) // cluster.threads)
        device, total = "cpu", int(has.get("memory", 0)) or None
        if cluster.has_gpus:
            device, total = f"{has.get('GPU', 0):g} GPU", cluster.gpu_bytes
            # A job that shares a GPU may leave room for another: what the registry knows of memory decides.
            places = places if has.get("GPU", 0) else 0
        if node["Alive"] and places:
            workers.append(
                TrainerWorker(name=node_worker(node["NodeID"]), device=device, total_bytes=total, places=places)
            )
    return workers
