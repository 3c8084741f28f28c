"""A chat that names what cannot answer gets OpenAI's error, which says what the name is and what to do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from safetensors.numpy import load_file, save_file

from gateway.settings import GatewaySettings
from registry.database import Registry
from registry.jobs.job import JobError
from registry.jobs.job_state import JobState
from registry.publishing.checkpoints import publish_checkpoint
from registry.publishing.publish import publish
from registry.publishing.score_head import SCORE_HEAD, SCORE_WEIGHT
from registry.states import AdapterKind
from registry.types import Base, CheckpointDraft, RevisionDraft, ServedCheckpointDraft
from tests.conftest import HIDDEN
from tests.gateway.openai.test_openai_face import create
from tests.gateway.sdk import sdk
from tests.gateway.served import ServedGateway

STEP = "ft:tiny:lorry:helpful:12345678:ckpt-step-5"


@pytest.fixture
def client(sqlite_registry: Registry, base: Base, base_folder: Path) -> Iterator[openai.OpenAI]:
    (base_folder / "config.json").write_text(json.dumps({"model_type": "llama", "hidden_size": HIDDEN}))
    sqlite_registry.bases.enter(base)
    with ServedGateway(GatewaySettings(replica_wait_s=60), sqlite_registry) as served:
        yield served.clients.enter_context(sdk(served.url))


def refusal(client: openai.OpenAI, model: str) -> str:
    with pytest.raises(openai.NotFoundError) as refused:
        client.chat.completions.create(model=model, messages=[{"role": "user", "content": "hello"}])
    assert (refused.value.code, refused.value.type) == ("model_not_found", "invalid_request_error")
    return str(refused.value.body["message"]) if isinstance(refused.value.body, dict) else ""


def test_a_reward_model_and_its_steps_score_and_do_not_answer(
    client: openai.OpenAI, sqlite_registry: Registry, make_adapter: Callable[..., Path]
) -> None:
    folders = [make_adapter(seed) for seed in (1, 2)]
    for folder in folders:
        (folder / "fingerprint.json").unlink()
        save_file({SCORE_WEIGHT: np.ones((1, HIDDEN), np.float32)}, folder / SCORE_HEAD)
    step = ServedCheckpointDraft(step=5, alias=STEP, folder=folders[1], expires_at=2e9)
    draft = RevisionDraft(adapter="helpful", base="tiny", owner="ann", kind=AdapterKind.REWARD, checkpoints=(step,))
    publish(sqlite_registry, folders[0], draft)
    for name in ("helpful@1", "helpful", STEP, "helpful@1-step-5"):
        assert "reward_model" in refusal(client, name)
    assert STEP not in [model.id for model in client.models.list()]
    shown = client.models.retrieve(STEP).to_dict()["lorry"]
    told = {"kind": "reward", "base": "tiny", "revision": "helpful@1", "step": 5, "expires_at": 2 * 10**9}
    assert shown == told | {"base_digest": sqlite_registry.bases.get("tiny").digest}
    grader = {"type": "reward_model", "name": "helpful", "model": STEP}
    assert client.fine_tuning.alpha.graders.validate(grader=grader).grader is not None  # type: ignore[arg-type]
    assert client.models.delete(STEP).deleted
    assert "was deleted" in refusal(client, STEP)
    with pytest.raises(openai.BadRequestError, match="is retired"):
        client.fine_tuning.alpha.graders.validate(grader=grader)  # type: ignore[arg-type]


def test_a_whole_model_without_a_pool_says_how_to_serve_it(
    client: openai.OpenAI, sqlite_registry: Registry, base_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "trained"
    shutil.copytree(base_folder, folder)
    (folder / "tokenizer_config.json").write_text("{}")
    changed = {name: one + 1 for name, one in load_file(folder / "model.safetensors").items()}
    save_file(changed, folder / "model.safetensors")
    last = ServedCheckpointDraft(step=9, alias="ft:tiny:lorry:tone:12345678:ckpt-step-9", folder=None, expires_at=None)
    draft = CheckpointDraft(series="tone", parent="tiny", owner="ann", tenant="local", is_shared=True, steps=(last,))
    publish_checkpoint(sqlite_registry, folder, draft)
    for name in ("tone-1", last.alias):
        assert 'checkpoint = "tone-1"' in refusal(client, name)
    shown: Any = client.models.retrieve(last.alias).to_dict()["lorry"]
    assert shown["served_name"] == "tone-1"
    assert client.models.delete(last.alias).deleted
    assert "does not exist" in refusal(client, "tone-1")


def test_the_model_of_a_job_that_has_not_succeeded_names_the_job(
    client: openai.OpenAI, sqlite_registry: Registry
) -> None:
    job = create(client)
    name = f"ft:tiny:lorry:support:{job.id[-8:]}"
    for model in (name, "support", f"{name}:ckpt-step-3"):
        assert f"made by the job {job.id}, which is queued" in refusal(client, model)
    lease = sqlite_registry.jobs.claim("w1", 60)
    assert lease is not None
    sqlite_registry.jobs.finish(lease, JobState.FAILED, JobError(code="diverged", message="the loss is nan"))
    assert f"the job {job.id}, which was to make it, has failed: the loss is nan" in refusal(client, name)
    with pytest.raises(openai.NotFoundError, match="has failed: the loss is nan"):
        client.models.retrieve(name)
    assert "Models here: tiny" in refusal(client, f"ft:tiny:lorry:other:{job.id[-8:]}")


def test_a_retired_revision_and_a_deleted_step_name_what_answers_instead(
    client: openai.OpenAI, sqlite_registry: Registry, make_adapter: Callable[..., Path]
) -> None:
    step = ServedCheckpointDraft(
        step=5, alias="ft:tiny:lorry:tone:1:ckpt-step-5", folder=make_adapter(3), expires_at=2e9
    )
    for seed, steps in ((1, ()), (2, (step,))):
        draft = RevisionDraft(adapter="tone", base="tiny", owner="ann", checkpoints=steps)
        publish(sqlite_registry, make_adapter(seed), draft)
    sqlite_registry.adapters.set_first_stable("tone", 1, "first_revision")
    client.models.delete("tone@2")
    assert "was retired and is not served any more. 'tone' answers by its stable revision, tone@1" in refusal(
        client, "tone@2"
    )
    client.models.delete(step.alias)
    assert "was deleted and is not served any more" in refusal(client, step.alias)
