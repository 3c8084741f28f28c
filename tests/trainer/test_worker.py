"""A job gets from the queue to a revision, or fails with its reason."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from registry.contracts.fingerprint import check_fingerprint
from registry.contracts.job_spec import LoraSpec
from registry.contracts.methods.supervised_spec import SupervisedSpec
from registry.database import Registry
from registry.disk import Liveness
from registry.jobs.job_state import JobState
from tests.trainer.attempts import TIMEOUT_S, MakeJob, loss_curve, messages, work
from tests.waiting import wait_for
from trainer.settings import TrainerSettings
from trainer.worker import Worker


@pytest.mark.trains
def test_a_job_becomes_a_revision_that_says_what_made_it(
    registry: Registry, settings: TrainerSettings, make_job: MakeJob
) -> None:
    job = make_job(validates=True)
    assert isinstance(job.spec, SupervisedSpec)
    file = registry.files.get(job.spec.training_file)
    work(registry, settings)
    ended = registry.jobs.get(job.id)
    assert (ended.state, ended.error) == (JobState.SUCCEEDED, None)
    assert ended.fine_tuned_model == f"ft:tiny:lorry:support:{job.id[-8:]}"
    revision = registry.adapters.revision("support", 1)
    assert (revision.alias, revision.job_id, revision.owner) == (ended.fine_tuned_model, job.id, "ann")
    made_by = json.loads(json.dumps(revision.provenance))
    assert made_by["dataset"]["sha256"] == made_by["validation"]["sha256"] == file.digest
    assert made_by["base"] == {"name": "tiny", "digest": job.spec.base_digest}
    assert made_by["hyperparameters"]["lora"]["rank"] == 4
    assert (made_by["seed"], made_by["owner"], made_by["attempts"]) == (7, "ann", 1)
    assert made_by["metrics"]["step"] == 6
    assert made_by["metrics"]["full_valid_loss"] > 0
    assert set(made_by["versions"]) >= {"torch", "transformers", "peft", "python"}
    assert made_by["times"]["started_at"] >= job.created_at
    assert made_by["trained_tokens"] == ended.trained_tokens
    assert sorted(loss_curve(registry, job.id)) == [1, 2, 3, 4, 5, 6]
    assert [checkpoint.global_step for checkpoint in registry.jobs.checkpoints(job.id)] == [6, 3]
    served = {each.step: each for each in registry.snapshot().checkpoints}
    assert {step: each.served_name for step, each in served.items()} == {
        3: f"support@{job.id[-8:]}-step-3",
        6: "support@1",
    }
    assert served[3].alias == f"{ended.fine_tuned_model}:ckpt-step-3"
    assert served[3].expires_at == pytest.approx((ended.finished_at or 0) + settings.checkpoints_served_s, abs=60)
    base = registry.bases.get("tiny")
    assert len(check_fingerprint(registry.artifacts.folder(served[3].artifact), base).probes) >= 4
    assert served[3].artifact != revision.artifact
    result_file = registry.files.get(str(ended.result_file))
    assert (result_file.purpose, result_file.owner, result_file.tenant) == ("fine-tune-results", "ann", job.tenant)
    rows = [*csv.DictReader(registry.files.path(result_file).read_text().splitlines())]
    assert [row["step"] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    assert {int(row["step"]): float(row["train_loss"]) for row in rows} == loss_curve(registry, job.id)
    # 6 steps: a batch at each, the whole file at the checkpoints (2, 4, 6) and the end of the first epoch (3).
    assert all(float(row["valid_loss"]) > 0 and row["valid_mean_token_accuracy"] for row in rows)
    assert [bool(row["full_valid_loss"]) for row in rows] == [False, True, True, True, False, True]
    kept = registry.jobs.checkpoints(job.id)[0].metrics
    train, valid = {"train_loss", "train_mean_token_accuracy"}, {"valid_loss", "valid_mean_token_accuracy"}
    assert set(kept) == {"step"} | train | valid | {f"full_{name}" for name in valid}
    said = messages(registry, job.id)
    for expected in (
        "Fine-tuning job started",
        "Checkpoint saved at step 2",
        f"The checkpoint of step 3 answers as {ended.fine_tuned_model}:ckpt-step-3",
        f"New fine-tuned model created: {revision.alias}",
        "The job has successfully completed",
    ):
        assert expected in said
    assert not list(settings.work.glob("*/*/checkpoint-*")), "an ended job leaves no checkpoints"


@pytest.mark.long
@pytest.mark.parametrize(
    ("fields", "code", "param", "said"),
    [
        # The only one of them that a child finds, which loads what trains.
        pytest.param({"max_length": 16}, "row_too_long", "training_file", "line 1: ", marks=pytest.mark.trains),
        ({"base_digest": "0" * 64}, "base_changed", "model", "has changed"),
        ({"base": "absent"}, "base_not_found", "model", "absent"),
        ({"lora": LoraSpec(rank=64)}, "invalid_hyperparameters", "hyperparameters", "rank"),
        ({"lora": LoraSpec(target_modules=("w_proj",))}, "invalid_hyperparameters", "hyperparameters", "w_proj"),
        ({"training_file": "file-gone"}, "file_not_readable", "training_file", "file-gone"),
    ],
)
def test_a_job_that_cannot_succeed_fails_with_a_reason(
    registry: Registry, settings: TrainerSettings, make_job: MakeJob, fields: Any, code: str, param: str, said: str
) -> None:
    job = make_job(**fields)
    work(registry, settings)
    ended = registry.jobs.get(job.id)
    assert ended.state is JobState.FAILED
    assert ended.error is not None
    assert (ended.error.code, ended.error.param) == (code, param)
    assert said in ended.error.message
    assert registry.snapshot().revisions == ()


def test_checkpoints_of_a_job_that_was_cancelled_while_it_waited_are_swept(
    registry: Registry, settings: TrainerSettings, make_job: MakeJob
) -> None:
    cancelled, waiting = make_job(), make_job()
    for job in (cancelled, waiting):
        (settings.work / job.id / "attempt-0001" / "checkpoint-2").mkdir(parents=True)
    registry.jobs.request_cancel(cancelled.id, "ann")
    Worker(registry, settings, "w1", Liveness(settings.work.parent, "w1")).sweep()
    assert [path.parent.parent.name for path in settings.work.glob("*/*/checkpoint-*")] == [waiting.id]


def test_a_worker_that_starts_removes_what_a_killed_one_left_of_an_ended_job(
    registry: Registry, settings: TrainerSettings, make_job: MakeJob
) -> None:
    ended, stop = make_job(), Event()
    weights = settings.work / ended.id / "attempt-0001" / "final"
    weights.mkdir(parents=True)
    registry.jobs.request_cancel(ended.id, "ann")
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(Worker(registry, settings, "w1", Liveness(settings.work.parent, "w1")).run, stop)
        try:
            wait_for(lambda: not weights.exists(), TIMEOUT_S)
        finally:
            stop.set()
        running.result(TIMEOUT_S)


@pytest.mark.long
def test_a_worker_without_a_registry_says_so_and_ends(tmp_path: Path) -> None:
    environment = os.environ | {"LORRY_HOME": str(tmp_path)}
    environment.pop("LORRY_CONFIG", None)
    ended = subprocess.run(
        [sys.executable, "-m", "trainer"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert ended.returncode == 1
    assert "the trainer cannot start" in ended.stderr
