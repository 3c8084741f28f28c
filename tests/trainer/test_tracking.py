"""The figures of a job reach the trackers that it names, and no fault of theirs reaches the job."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from registry.contracts.extensions.integrations import Integration
from registry.database import Registry
from registry.jobs.job_state import JobState
from tests.trainer.attempts import MakeJob, messages, work
from trainer.progress import CheckpointSaved, Noted, Stepped
from trainer.settings import TrainerSettings
from trainer.tracking.tracked_report import figures_of

ASKED = [
    {"type": "wandb", "wandb": {"project": "shop", "name": "first", "tags": ["a", "b"]}},
    {"type": "mlflow", "mlflow": {"experiment": "shop", "tags": {"team": "support"}}},
    {"type": "tensorboard"},
]


def test_only_finite_figures_of_steps_and_validations_are_tracked() -> None:
    step = Stepped(
        step=3,
        total_steps=9,
        train_loss=float("nan"),
        learning_rate=0.1,
        tokens=7,
        eta_s=1.0,
        figures={"accuracy": 0.5},
    )
    assert figures_of(step) == (3, {"learning_rate": 0.1, "tokens": 7.0, "accuracy": 0.5})
    noted = Noted(message="Validation loss", data={"step": 3, "full_valid_loss": 1.5, "seconds": 2})
    assert figures_of(noted) == (3, {"full_valid_loss": 1.5})
    assert figures_of(Noted(message="hello")) == (0, {})
    assert figures_of(CheckpointSaved(step=3, metrics={"train_loss": 1.0})) == (0, {})


@pytest.mark.trains
def test_trackers_get_every_step_without_a_network(
    registry: Registry, settings: TrainerSettings, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WANDB_MODE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    asked = tuple(Integration.model_validate(each) for each in ASKED)
    job = make_job(validates=True, integrations=asked, n_epochs=1)
    work(registry, settings)
    said = messages(registry, job.id)
    assert registry.jobs.get(job.id).state is JobState.SUCCEEDED
    assert [text.split(":")[0] for text in said if "igures" in text] == [
        f"Figures go to {name}" for name in ("wandb", "mlflow", "tensorboard")
    ], said
    folder = settings.work / job.id / "tracking"
    (run,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    assert b"full_valid_loss" in run.read_bytes()
    assert b"shop" in run.read_bytes()
    (metric,) = folder.glob("mlruns/*/*/metrics/train_loss")
    assert [int(line.split()[2]) for line in metric.read_text().splitlines()] == [1, 2, 3]
    (events,) = folder.glob(f"tensorboard/{job.id}/events.out.*")
    assert {"train_loss", "full_valid_loss"} <= set(tags_in(events))


@pytest.mark.trains
def test_a_tracker_that_fails_is_left_out_and_the_job_goes_on(
    registry: Registry, settings: TrainerSettings, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://nowhere")
    job = make_job(integrations=(Integration.model_validate(ASKED[1]),), n_epochs=1)
    work(registry, settings)
    assert registry.jobs.get(job.id).state is JobState.SUCCEEDED
    warned = [event for event in registry.jobs.events(job.id, limit=100) if event.level == "warn"]
    assert any(event.message.startswith("The integration mlflow failed and gets no further") for event in warned)


def tags_in(path: Path) -> Mapping[str, float]:
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    found: dict[str, float] = {}
    for event in EventFileLoader(str(path)).Load():
        for value in event.summary.value:
            found[value.tag] = value.tensor.float_val[0]
    return found
