"""Whoever follows a job reads what it does, how far that is, and an estimate that names its ground."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import pytest
from rich.console import Console

from gateway.cli.following.job_progress import detail_of, estimate_text, expected_text, part_of, what_of
from gateway.cli.following.live_line import LiveLine
from gateway.cli.following.rough_times import rough_time
from gateway.cli.following.serving_progress import outcome_of, serving_text
from gateway.objects.job_estimate import JobEstimate
from gateway.objects.jobs import JobFacts, JobMethod, JobObject, StepFigures
from gateway.objects.operations import NamedSlot
from registry.jobs.job_phase import JobPhase
from registry.jobs.job_state import JobState
from registry.states import SlotState

STEPS = JobEstimate(remaining_s=38, source="steps", earlier_jobs=None)
EARLIER = JobEstimate(remaining_s=130, source="earlier_jobs", earlier_jobs=3)


def job(status: JobState, attempt: int = 1, **facts: Any) -> JobObject:
    given: dict[str, Any] = {"phase": None, "phase_since": None, "estimate": None} | facts
    about = JobFacts(adapter="support", revision=None, owner="ann", attempt=attempt, worker="w1", **given)
    fields: dict[str, Any] = {"id": "ftjob-1", "created_at": 1, "finished_at": None, "error": None, "object": "job"}
    return JobObject(**fields, model="tiny", status=status, lorry=about, method=JobMethod(type="supervised"))


def said(shown: JobObject, figures: StepFigures | None = None) -> str:
    return what_of(shown) + detail_of(shown, figures, now=100.0)


def test_every_stage_is_told_with_its_estimate() -> None:
    waiting = job(JobState.QUEUED, attempt=0, estimate=EARLIER)
    assert said(waiting) == "waiting for the trainer, about 2 min once it begins, estimated from 3 earlier jobs like it"
    loading = job(JobState.RUNNING, phase=JobPhase.LOADING, doing="loading the model", phase_since=88)
    assert said(loading) == "loading the model, 12 s so far"
    figures = StepFigures(step=12, total_steps=60, train_loss=1.2345)
    training = job(JobState.RUNNING, phase=JobPhase.TRAINING, doing="training", phase_since=60, estimate=STEPS)
    told = "training, step 12 of 60, loss 1.234, about 40 s left by the speed of its steps"
    assert said(training, figures) == told
    assert (part_of(training, figures), part_of(loading, figures)) == (0.2, None)


def test_an_estimate_is_never_made_up() -> None:
    assert estimate_text(None, is_begun=True) == []
    assert "first steps" in expected_text(None)
    lone = JobEstimate(remaining_s=4, source="earlier_jobs", earlier_jobs=1)
    assert expected_text(lone) == "Some seconds once it begins, estimated from an earlier job like it."


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3, "some seconds"), (38, "about 40 s"), (89, "about 1 min"), (660, "about 11 min"), (9000, "about 2.5 h")],
)
def test_a_time_is_as_rough_as_an_estimate(seconds: float, text: str) -> None:
    assert rough_time(seconds) == text


def slot(state: SlotState, message: str = "") -> NamedSlot:
    return NamedSlot(served_name="support@2", state=state, reason="", message=message, proof=None)


def test_replicas_that_take_a_revision_are_counted() -> None:
    proving = [slot(SlotState.PROVING), slot(SlotState.READY)]
    assert serving_text("support@2", proving, 2) == "proving support@2 on 1 of 2 replicas, 1 ready"
    assert serving_text("support@2", [], 1) == "waiting for a replica to load support@2"
    assert outcome_of("support@2", [slot(SlotState.READY)] * 2) == "support@2 is proven and served by 2 replicas"
    failed = [slot(SlotState.READY), slot(SlotState.FAILED, "the logprobs differ")]
    assert outcome_of("support@2", failed) == "support@2 is not served by 1 of 2 replicas: the logprobs differ"


@dataclass
class Shown:
    output: io.StringIO

    @property
    def lines(self) -> list[str]:
        return [line.partition("  ")[2] for line in self.output.getvalue().splitlines()]


def test_without_a_terminal_a_line_comes_with_every_change_and_then_again_and_again() -> None:
    shown = Shown(io.StringIO())
    with LiveLine(Console(file=shown.output, width=20), repeat_s=3600.0) as line:
        line.show("encoding rows", ", 1 s so far")
        line.show("encoding rows", ", 2 s so far")
        line.show("loading the [model]", ", 0 s so far")
    assert shown.lines == ["encoding rows, 1 s so far", "loading the [model], 0 s so far"]
    shown = Shown(io.StringIO())
    with LiveLine(Console(file=shown.output), repeat_s=0.0) as line:
        line.show("training", ", step 1 of 9")
        line.show("training", ", step 2 of 9")
    assert shown.lines == ["training, step 1 of 9", "training, step 2 of 9"]


def test_a_terminal_has_one_line_that_is_gone_afterwards() -> None:
    output = io.StringIO()
    with LiveLine(Console(file=output, width=80, force_terminal=True)) as line:
        line.show("training", ", step 1 of 9", 1 / 9)
        line.show("training", ", step 2 of 9", 2 / 9)
    assert output.getvalue().endswith("\x1b[2K")
