"""A spec gives the same bytes again: killed and continued, and run anew in another process, for every method.

`docs/training/reproduce.md` lists what is shown here; `CASES` is that list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import psutil
import pytest

from registry.contracts.reproductions.reproduction_report import REPORT, ReproductionReport
from registry.database import Registry
from registry.jobs.job import Job, JobState
from registry.publishing.reproductions import queue_reproduction
from tests.kills.asked import KINDS, SIMILAR, Trained, chat, pair, rated, sampled
from tests.trainer.attempts import TIMEOUT_S, messages, queue, suspended, work, working
from trainer.settings import TrainerSettings

pytestmark = pytest.mark.trains

THIS = psutil.Process()
FULL: Mapping[str, Any] = {"weights": "full", "lora_rank": None, "learning_rate": 0.001}
PROJECTED: Mapping[str, Any] = {**FULL, "optimizer_rank": 8, "optimizer_interval": 2}
DROPOUT = {"lora_dropout": 0.1}
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "rslora": {"lora_variant": "rslora", "lora_plus_ratio": 16.0},
    "pissa": {"lora_variant": "pissa"},
    "olora": {"lora_variant": "olora"},
    "dora": {"lora_variant": "dora"},
    "qlora": {"weights": "qlora"},
    "adafactor": {**FULL, "optimizer": "adafactor", "gradient_checkpointing": True},
    "galore": {**PROJECTED, "optimizer": "galore"},
    "apollo": {**PROJECTED, "optimizer": "apollo"},
}
WEIGHTS: Sequence[Trained] = tuple(
    Trained(name=name, method="supervised", rows=chat, hyperparameters=given) for name, given in OPTIONS.items()
)
METHODS: Sequence[Trained] = (
    Trained(name="ipo-of-full", method="dpo", rows=pair, hyperparameters={**FULL, "loss_type": "ipo"}),
    Trained(name="kto-validated", method="kto", rows=rated, hyperparameters=DROPOUT, validates=True),
    Trained(name="reward-validated", method="reward", rows=pair, hyperparameters=DROPOUT, validates=True),
    sampled("dropped-out", "reinforcement", SIMILAR, **DROPOUT, iterations=2),
    sampled("ppo-once", "ppo", SIMILAR, iterations=1),
)
CASES: Sequence[Trained] = (*(kind for kind in KINDS if isinstance(kind, Trained)), *WEIGHTS, *METHODS)


def report_of(registry: Registry, job: Job) -> ReproductionReport:
    (found,) = (event.data[REPORT] for event in registry.jobs.events(job.id, limit=1000) if REPORT in event.data)
    return ReproductionReport.model_validate(found)


@pytest.mark.parametrize("kind", CASES, ids=lambda kind: kind.name)
def test_a_killed_job_and_a_reproduction_of_it_have_the_same_bytes(
    registry: Registry, settings: TrainerSettings, kind: Trained
) -> None:
    job = queue(registry, kind)
    with working(registry, settings) as (attempt, _):
        with suspended(THIS, settings.work / job.id) as child:
            child.kill()
        attempt.result(TIMEOUT_S)
    work(registry, settings)
    ended = registry.jobs.get(job.id)
    assert (ended.state, ended.attempt) == (JobState.SUCCEEDED, 2), ended.error
    assert any("Continuing from the checkpoint of step" in said for said in messages(registry, job.id))
    result = f"{kind.name}@{ended.revision}" if ended.revision is not None else str(ended.fine_tuned_model)
    again = queue_reproduction(registry, result, "ann")
    work(registry, settings)
    assert registry.jobs.get(again.id).state is JobState.SUCCEEDED, registry.jobs.get(again.id).error
    report = report_of(registry, again)
    assert report.same_bytes, (report.verdict, report.differing_files)
    assert (report.losses.differing, report.losses.missing, report.facts) == (0, 0, [])
    assert report.losses.compared > 0
