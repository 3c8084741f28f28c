"""The result file of a job has OpenAI's columns, and those of the job's method behind them."""

from __future__ import annotations

from registry.database import Registry
from registry.jobs.job_moves import JobNote, new_event_id
from tests.trainer.attempts import MakeJob
from trainer.result_file import result_csv

OPENAI = "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy"
FULL = "full_valid_loss,full_valid_mean_token_accuracy"
STEP = {"total_steps": 2, "learning_rate": 0.1, "tokens": 9, "eta_s": 1.0}


def test_rewards_are_columns_by_openais_names(registry: Registry, make_job: MakeJob) -> None:
    job = make_job()
    lease = registry.jobs.claim("w1", 60.0)
    assert lease is not None
    for data in (
        {"step": 1, "train_loss": 0.5, "train_mean_reward": 0.25, "completion_tokens": 12.5, **STEP},
        {"step": 2, "train_loss": 0.4, "train_mean_reward": 0.75, "completion_tokens": 10.0, "kl": 0.1, **STEP},
        {"step": 2, "full_valid_loss": -0.5, "full_valid_mean_reward": 0.5},
        {"step": 2, "message": "of no use for a table"},
    ):
        registry.jobs.add_event(lease, new_event_id(), JobNote(message="", type="metrics", data=data))
    told = result_csv(registry, job.id)
    assert told is not None
    assert told.decode().splitlines() == [
        f"{OPENAI},{FULL},completion_tokens_mean,kl,train_mean_reward,full_valid_mean_reward",
        "1,0.5,,,,,,12.5,,0.25,",
        "2,0.4,,,,-0.5,,10.0,0.1,0.75,0.5",
    ]


def test_a_job_without_steps_has_no_result_file(registry: Registry, make_job: MakeJob) -> None:
    assert result_csv(registry, make_job().id) is None
