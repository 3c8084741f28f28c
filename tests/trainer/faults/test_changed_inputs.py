"""A job whose data, pictures, reward model or base model change while it works fails, and says which of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.openai.job_request import build_spec
from gateway.openai.types import CreateJob
from registry.artifacts import folder_digest
from registry.database import Registry
from registry.jobs.job import Job
from registry.jobs.job_state import JobState
from registry.types import Base
from tests.kills.asked import KINDS, SIMILAR, Trained, pair, sampled
from tests.trainer.attempts import TIMEOUT_S, MakeJob, queue, suspended
from tests.trainer.forks.forked_children import ForkedChildren
from tests.trainer.tiny_vision import picture, save_llava
from trainer.settings import TrainerSettings

pytestmark = pytest.mark.trains

UPLOADED: Mapping[str, Any] = {"purpose": "fine-tune", "owner": "ann"}


@contextmanager
def changed(path: Path) -> Iterator[None]:
    """Change a byte of the file at *path*, a letter of an answer if it has any, and change it back."""
    before, mode = path.read_bytes(), path.stat().st_mode
    at = before.find(b"answer") if b"answer" in before else len(before) - 2
    path.chmod(0o600)
    path.write_bytes(before[:at] + bytes([before[at] ^ 2]) + before[at + 1 :])
    try:
        yield
    finally:
        path.write_bytes(before)
        path.chmod(mode)


def assert_fails(
    registry: Registry, settings: TrainerSettings, forks: ForkedChildren, job: Job, path: Path, *, code: str, param: str
) -> str:
    """Change *path* after the first checkpoint of *job*; return the message with which the job failed."""
    before = registry.snapshot().revisions
    with ExitStack() as change, forks.working(registry, settings) as (attempt, _):
        with suspended(forks.process, settings.work / job.id):
            change.enter_context(changed(path))
        attempt.result(TIMEOUT_S)
    ended = registry.jobs.get(job.id)
    assert ended.error is not None
    assert (ended.state, ended.error.code, ended.error.param) == (JobState.FAILED, code, param), ended.error.message
    assert registry.snapshot().revisions == before
    assert not list(settings.work.glob("*/*/checkpoint-*"))
    return ended.error.message


LORA = next(kind for kind in KINDS if isinstance(kind, Trained))
FIELDS: Mapping[str, tuple[Trained, str]] = {
    "chats": (LORA, "training_file"),
    "pairs": (Trained(name="dpo", method="dpo", rows=pair), "training_file"),
    "prompts": (sampled("grpo", "reinforcement", SIMILAR), "training_file"),
}


@pytest.mark.parametrize("what", FIELDS)
def test_a_training_file_that_changes(
    registry: Registry, settings: TrainerSettings, forks: ForkedChildren, what: str
) -> None:
    kind, field = FIELDS[what]
    job = queue(registry, kind)
    path = registry.files.path(registry.files.get(job.spec.files()[field]))
    message = assert_fails(registry, settings, forks, job, path, code="file_not_readable", param=field)
    assert "changed while the job was running" in message


def test_a_validation_file_that_changes(
    registry: Registry, settings: TrainerSettings, forks: ForkedChildren, make_job: MakeJob
) -> None:
    valid = registry.files.add([LORA.lines() * 2], filename="valid.jsonl", **UPLOADED)
    job = make_job(n_epochs=10, validation_file=valid.id)
    path = registry.files.path(valid)
    message = assert_fails(registry, settings, forks, job, path, code="file_not_readable", param="validation_file")
    assert "the bytes of validation_file changed" in message


def test_a_reward_model_that_changes(registry: Registry, settings: TrainerSettings, forks: ForkedChildren) -> None:
    queue(registry, Trained(name="helpful", method="reward", rows=pair))
    forks.work(registry, settings)
    artifact = registry.adapters.revision("helpful", 1).artifact
    job = queue(registry, sampled("grpo", "reinforcement", {"type": "reward_model", "model": "helpful@1"}))
    path = registry.artifacts.folder(artifact) / "adapter_model.safetensors"
    param = "reward_artifacts/helpful@1"
    message = assert_fails(registry, settings, forks, job, path, code="file_not_readable", param=param)
    assert f"the bytes of {param} changed" in message


def test_a_base_model_that_changes(
    registry: Registry, settings: TrainerSettings, forks: ForkedChildren, make_job: MakeJob, tiny_base: Path
) -> None:
    config = tiny_base / "generation_config.json"
    assert_fails(registry, settings, forks, make_job(n_epochs=10), config, code="base_changed", param="model")


def test_a_picture_that_changes(
    registry: Registry, settings: TrainerSettings, forks: ForkedChildren, home: Path
) -> None:
    save_llava(home / "seer")
    digest = folder_digest(home / "seer")
    registry.bases.enter(Base(name="seer", path=str(home / "seer"), digest=digest, licence="", created_at=1.0))
    shown = registry.files.add([picture("red")], filename="red.png", purpose="vision", owner="ann")
    asked = [{"type": "text", "text": "colour?"}, {"type": "image_url", "image_url": {"url": shown.id}}]
    row = {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": "red"}]}
    file = registry.files.add([(json.dumps(row) + "\n").encode() * 12], filename="rows.jsonl", **UPLOADED)
    hyperparameters = {"n_epochs": 5, "batch_size": 4, "checkpoint_steps": 2, "lora_rank": 4}
    body = {"model": "seer", "training_file": file.id, "suffix": "colours"}
    method = {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}}
    spec = build_spec(CreateJob.model_validate({**body, "method": method}), registry)
    job = registry.jobs.create(spec, "ann")
    message = assert_fails(
        registry, settings, forks, job, registry.files.path(shown), code="file_not_readable", param="training_file"
    )
    assert "changed while the job was running" in message
