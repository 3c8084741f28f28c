"""Jobs that learn preferences go from their upload to what they publish."""

from __future__ import annotations

from pathlib import Path
from socket import gethostname
from typing import Any

import pytest

from gateway.openai.job_request import build_spec
from gateway.openai.types import CreateJob
from registry.database import Registry
from registry.jobs.job_state import JobState
from registry.states import AdapterKind
from tests.trainer.forks.forked_children import ForkedChildren
from tests.trainer.recipes.preference_runs import METHODS, write_rows
from trainer.settings import TrainerSettings


@pytest.mark.trains
@pytest.mark.parametrize("method", METHODS)
def test_a_job_goes_from_its_request_to_its_revision(
    registry: Registry, settings: TrainerSettings, forks: ForkedChildren, home: Path, method: str
) -> None:
    with write_rows(method, home / "rows.jsonl").open("rb") as lines:
        file = registry.files.add(lines, filename="rows.jsonl", purpose="fine-tune", owner="ann")
    own: dict[str, Any] = {"n_epochs": 1, "batch_size": 4, "learning_rate": 0.01, "lora_rank": 8}
    request = {"model": "tiny", "training_file": file.id, "validation_file": file.id, "suffix": "support", "seed": 7}
    asked = {"method": {"type": method, method: {"hyperparameters": own}}}
    job = registry.jobs.create(build_spec(CreateJob.model_validate({**request, **asked}), registry), "ann")
    registry.measurements.add_estimate(job.id, job.spec, 10**9, 30.0)
    forks.work(registry, settings)
    done = registry.jobs.get(job.id)
    assert done.state is JobState.SUCCEEDED, done.error
    # The peak is that of a process with torch, whatever the machine.
    [took] = registry.measurements.like(job.spec, gethostname())
    assert (took.estimated_bytes, took.peak_bytes > 10**8, took.seconds > 0) == (10**9, True, True)
    revision = registry.adapters.revision("support", 1)
    kind = AdapterKind.REWARD if method == "reward" else AdapterKind.CHAT
    assert registry.adapters.get("support").kind == kind
    assert revision.provenance["hyperparameters"]["method"] == method
    figures = [event.data for event in registry.jobs.events(job.id) if "train_reward_margin" in event.data]
    assert len(figures) == 3
    results = registry.files.get(str(done.result_file))
    columns, *table = registry.files.path(results).read_text().splitlines()
    assert columns.startswith("step,train_loss,train_accuracy,")
    wanted = {"train_reward_margin", "valid_reward_margin", "full_valid_reward_margin"}
    assert wanted <= set(columns.split(","))
    assert not any(line.split(",")[columns.split(",").index("train_reward_margin")] == "" for line in table)
