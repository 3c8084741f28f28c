"""A worker reads exactly the reports that its child sends."""

from __future__ import annotations

import os

import pytest

from registry.database import Registry
from registry.jobs.job_phase import JobPhase
from tests.trainer.attempts import MakeJob
from trainer.errors import ProgressInvalid
from trainer.progress import (
    CheckpointSaved,
    Noted,
    PhaseBegan,
    Progress,
    ProgressPipe,
    RecipeFailed,
    RecipeFinished,
    RecipeStopped,
    Stepped,
    parse_progress,
)
from trainer.progress_writer import ProgressWriter

MESSAGES: list[Progress] = [
    Noted(message="a line\nand another", level="warn", data={"step": 2}),
    Stepped(
        step=1,
        total_steps=4,
        train_loss=2.5,
        learning_rate=1e-3,
        tokens=9,
        eta_s=3.0,
        figures={"train_mean_token_accuracy": 0.5},
    ),
    PhaseBegan(phase=JobPhase.ENCODING),
    CheckpointSaved(step=2, metrics={"train_loss": 2.0}),
    RecipeStopped(step=2),
    RecipeFailed(code="diverged", message="the loss is nan", param="hyperparameters"),
    RecipeFinished(metrics={}, trained_tokens=36, versions={"torch": "2"}, machine={}),
]


def test_progress_crosses_a_pipe_unchanged() -> None:
    reading, writing = os.pipe()
    for message in MESSAGES:
        ProgressPipe(writing).send(message)
    os.close(writing)
    with os.fdopen(reading, "rb") as lines:
        assert [parse_progress(line) for line in lines] == MESSAGES


@pytest.mark.parametrize("line", [b"", b"{}", b'{"kind": "danced"}', b'{"kind": "stopped", "step": 1, "more": 2}'])
def test_anything_else_is_refused(line: bytes) -> None:
    with pytest.raises(ProgressInvalid):
        parse_progress(line)


def test_the_first_step_is_written_at_once_and_later_ones_when_the_worker_writes(
    registry: Registry, make_job: MakeJob
) -> None:
    make_job()
    lease = registry.jobs.claim("w1", 30.0)
    assert lease is not None
    writer, written = ProgressWriter(registry, lease), []
    for step in (1, 2):
        writer.step(Stepped(step=step, total_steps=2, train_loss=1.0, learning_rate=0.1, tokens=9, eta_s=1.0))
        written.append(sum(event.type == "metrics" for event in registry.jobs.events(lease.job_id)))
    assert writer.flush()
    assert written == [1, 1]
    assert sum(event.type == "metrics" for event in registry.jobs.events(lease.job_id)) == 2
