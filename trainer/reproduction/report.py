"""The report on a job that was run again."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from registry.artifacts import folder_digest, folder_files
from registry.contracts.reproductions.reproduce_spec import ReproduceSpec
from registry.contracts.reproductions.reproduction_report import FactDifference, ReproductionReport
from registry.database import Registry
from registry.disk import sha256_of
from registry.jobs.job import Job, JobEvent
from trainer.progress import RecipeFinished
from trainer.reproduction.losses_compared import compare_losses, losses_of
from trainer.reproduction.weights_compared import compare_weights

EVENTS_AT_ONCE: Final = 1000


def reproduction_report(registry: Registry, job: Job, folder: Path, finished: RecipeFinished) -> ReproductionReport:
    """Return how the result in *folder*, which *job* made again, differs from the recorded result.

    Raises `NotFound` or `ArtifactCorrupt` if the recorded result is gone.
    """
    spec = ReproduceSpec.model_validate(job.spec.model_dump())
    recorded = registry.artifacts.folder(spec.result_artifact)
    digest = folder_digest(folder)
    return ReproductionReport(
        result=spec.result,
        job_id=spec.job_id,
        same_bytes=digest == spec.result_artifact,
        recorded_digest=spec.result_artifact,
        digest=digest,
        differing_files=_differing_files(recorded, folder),
        facts=[
            *_differing_facts(spec.versions, finished.versions | {"python": platform.python_version()}),
            *_differing_facts(spec.machine, finished.machine),
        ],
        weights=compare_weights(recorded, folder),
        losses=compare_losses(losses_of(_events(registry, spec.job_id)), losses_of(_events(registry, job.id))),
    )


def _differing_facts(recorded: Mapping[str, str], now: Mapping[str, str]) -> list[FactDifference]:
    return [
        FactDifference(fact=name, recorded=recorded.get(name), now=now.get(name))
        for name in sorted(recorded.keys() | now.keys())
        if recorded.get(name) != now.get(name)
    ]


def _differing_files(recorded: Path, again: Path) -> list[str]:
    before, after = ({name: sha256_of(folder / name) for name in folder_files(folder)} for folder in (recorded, again))
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def _events(registry: Registry, job_id: str) -> Iterator[JobEvent]:
    after = None
    while events := registry.jobs.events(job_id, after=after, limit=EVENTS_AT_ONCE):
        yield from events
        after = events[-1].id
