"""Checkpoints and reward models over HTTP: listed, usable by their tenant, trained on, deleted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import openai
import pytest
from safetensors.numpy import load_file, save_file
from starlette.testclient import TestClient

from gateway.app import build_app, build_gateway
from gateway.settings import GatewaySettings
from registry.database import Registry
from registry.keys import KeyDraft, Scope
from registry.publishing.checkpoints import publish_checkpoint
from registry.publishing.publish import publish
from registry.publishing.score_head import SCORE_HEAD, SCORE_WEIGHT
from registry.states import AdapterKind, ResultKind
from registry.types import Base, CheckpointDraft, RevisionDraft
from tests.conftest import HIDDEN
from tests.gateway.openai.test_openai_face import SMALL, upload
from tests.gateway.stage import report
from tests.waiting import wait_for

BOTH = frozenset({Scope.INFERENCE, Scope.TRAINING})


@pytest.fixture
def checkpoint(sqlite_registry: Registry, base: Base, base_folder: Path, tmp_path: Path) -> Base:
    """`support-1` of the tenant `red`, made from `tiny`."""
    (base_folder / "config.json").write_text(json.dumps({"model_type": "llama", "hidden_size": HIDDEN}))
    sqlite_registry.bases.enter(base)
    folder = tmp_path / "trained"
    shutil.copytree(base_folder, folder)
    (folder / "tokenizer_config.json").write_text("{}")
    weights = load_file(folder / "model.safetensors")
    save_file({name: one + 1 for name, one in weights.items()}, folder / "model.safetensors")
    draft = CheckpointDraft(
        series="support", parent="tiny", owner="ann", tenant="red", is_shared=False, provenance={"seed": 7}
    )
    return publish_checkpoint(sqlite_registry, folder, draft)


@pytest.fixture
def http(sqlite_registry: Registry, checkpoint: Base) -> Iterator[TestClient]:
    app = build_app(build_gateway(GatewaySettings(route_refresh_s=0.02), sqlite_registry))
    with TestClient(app, base_url="http://localhost") as client:
        yield client


def known(http: TestClient, headers: dict[str, str]) -> bool:
    return http.get("/v1/models", headers=headers).is_success


def test_a_checkpoint_is_listed_with_its_lineage_and_can_be_deleted(http: TestClient, checkpoint: Base) -> None:
    listed = {base["name"]: base for base in http.get("/admin/bases").json()["data"]}
    assert {name: base["parent"] for name, base in listed.items()} == {"support-1": "tiny", "tiny": None}
    assert (listed["support-1"]["tenant"], listed["support-1"]["shared"]) == ("red", False)
    shown = http.get("/admin/bases/support-1").json()
    assert (shown["digest"], shown["provenance"]) == (checkpoint.digest, {"seed": 7})
    model = http.get("/v1/models/support-1").json()
    assert (model["owned_by"], model["lorry"]["kind"], model["lorry"]["parent"]) == ("ann", "base", "tiny")
    assert http.delete("/admin/bases/tiny").status_code == 409
    assert http.delete("/admin/bases/support-1").json() == {"name": "support-1", "deleted": True}
    for path in ("/v1/models/support-1", "/admin/bases/support-1"):
        assert http.get(path).status_code == 404


def test_only_its_tenant_uses_a_checkpoint_until_it_is_shared(http: TestClient, sqlite_registry: Registry) -> None:
    sqlite_registry.keys.create(KeyDraft(name="root", scopes=frozenset(Scope)), "root")
    clients = {}
    # Until the gateway has read the keys it answers whoever asks, with any key.
    wait_for(lambda: not known(http, {}))
    for tenant in ("red", "blue"):
        secret = sqlite_registry.keys.create(KeyDraft(name=tenant, scopes=BOTH, tenant=tenant), "root").secret
        headers = {"authorization": f"Bearer {secret}"}
        wait_for(partial(known, http, headers))
        clients[tenant] = openai.OpenAI(base_url="http://localhost/v1", api_key=secret, http_client=http, max_retries=0)
    red, blue = clients["red"], clients["blue"]
    assert [model.id for model in red.models.list()] == ["support-1", "tiny"]
    assert [model.id for model in blue.models.list()] == ["tiny"]
    file_id = upload(red)
    with pytest.raises(openai.BadRequestError, match=r"model 'support-1' cannot be .* there are: tiny"):
        blue.fine_tuning.jobs.create(model="support-1", training_file=file_id)
    job = red.fine_tuning.jobs.create(model="support-1", training_file=file_id, extra_body={"hyperparameters": SMALL})
    assert job.model == "support-1"
    sqlite_registry.owners.change("support-1", tenant=None, is_shared=True, actor="root")
    shared = blue.fine_tuning.jobs.create(
        model="support-1", training_file=upload(blue), extra_body={"hyperparameters": SMALL}
    )
    assert shared.model == "support-1"


def test_its_tenant_deletes_a_whole_model_unless_a_replica_serves_it(
    http: TestClient, sqlite_registry: Registry, checkpoint: Base
) -> None:
    sqlite_registry.keys.create(KeyDraft(name="root", scopes=frozenset(Scope)), "root")
    wait_for(lambda: not known(http, {}))
    clients = {}
    for tenant in ("red", "blue"):
        secret = sqlite_registry.keys.create(KeyDraft(name=tenant, scopes=BOTH, tenant=tenant), "root").secret
        wait_for(partial(known, http, {"authorization": f"Bearer {secret}"}))
        clients[tenant] = openai.OpenAI(base_url="http://localhost/v1", api_key=secret, http_client=http, max_retries=0)
    red, blue = clients["red"], clients["blue"]
    with pytest.raises(openai.NotFoundError):
        blue.models.delete("support-1")
    (shared,) = red.fine_tuning.checkpoints.permissions.create("support-1", project_ids=["blue"])
    assert blue.models.retrieve("support-1").id == "support-1"
    with pytest.raises(openai.PermissionDeniedError, match="belongs to another tenant"):
        blue.models.delete("support-1")
    red.fine_tuning.checkpoints.permissions.delete(shared.id, fine_tuned_model_checkpoint="support-1")
    with pytest.raises(openai.NotFoundError):
        blue.models.retrieve("support-1")
    sqlite_registry.owners.change("support-1", tenant=None, is_shared=True, actor="root")
    with pytest.raises(openai.PermissionDeniedError, match="belongs to another tenant"):
        blue.models.delete("support-1")
    report(sqlite_registry, "r1", base="support-1")
    with pytest.raises(openai.ConflictError, match="checkpoint 'support-1' is in use by replica r1"):
        red.models.delete("support-1")
    sqlite_registry.replicas.mark_gone("r1")
    assert red.models.delete("support-1").deleted
    assert not sqlite_registry.artifacts.has_folder(checkpoint.digest)
    with pytest.raises(openai.NotFoundError):
        red.models.retrieve("support-1")


def test_a_reward_model_is_an_adapter_that_no_request_may_name(
    http: TestClient, sqlite_registry: Registry, make_adapter: Callable[..., Path]
) -> None:
    folder = make_adapter()
    (folder / "fingerprint.json").unlink()
    save_file({SCORE_WEIGHT: np.ones((1, HIDDEN), np.float32)}, folder / SCORE_HEAD)
    publish(
        sqlite_registry, folder, RevisionDraft(adapter="helpful", base="tiny", owner="ann", kind=AdapterKind.REWARD)
    )
    (listed,) = http.get("/admin/adapters").json()["data"]
    assert (listed["name"], listed["kind"], listed["latest"], listed["stable"]) == ("helpful", "reward", 1, None)
    shown = http.get("/admin/adapters/helpful").json()
    assert [(each["name"], each["slots"]) for each in shown["revisions"]] == [("helpful@1", {})]
    assert [model["id"] for model in http.get("/v1/models").json()["data"]] == ["support-1", "tiny"]
    model = http.get("/v1/models/helpful@1").json()
    assert (model["lorry"]["kind"], model["lorry"]["base"], model["owned_by"]) == ("reward", "tiny", "ann")
    assert "is a reward model" in http.get("/v1/models/helpful").json()["error"]["message"]
    rollout = {"revision": 1, "steps": [50, 100]}
    assert http.post("/admin/adapters/helpful/rollouts", json=rollout).status_code == 409
    client = openai.OpenAI(base_url="http://localhost/v1", api_key="none", http_client=http, max_retries=0)
    with pytest.raises(
        openai.BadRequestError, match="suffix 'helpful' is a series of reward models, and this job makes a chat model"
    ):
        client.fine_tuning.jobs.create(
            model="tiny", training_file=upload(client), suffix="helpful", extra_body={"hyperparameters": SMALL}
        )
    assert client.models.delete("helpful@1").deleted
    for call in (client.models.retrieve, client.models.delete):
        with pytest.raises(openai.NotFoundError, match="was retired and is not served any more"):
            call("helpful@1")


def test_full_weights_need_no_replica_that_takes_adapters_and_take_no_rollout(
    http: TestClient, sqlite_registry: Registry
) -> None:
    client = openai.OpenAI(base_url="http://localhost/v1", api_key="none", http_client=http, max_retries=0)
    file_id, full = upload(client), {"weights": "full", "optimizer": "apollo"}
    job = client.fine_tuning.jobs.create(
        model="support-1", training_file=file_id, suffix="tone", extra_body={"hyperparameters": full}
    )
    spec = sqlite_registry.jobs.get(job.id).spec
    assert (spec.result_kind(), spec.lora_shape()) == (ResultKind.CHECKPOINT, None)
    with pytest.raises(openai.BadRequestError, match="the result of this job is a checkpoint") as refused:
        client.fine_tuning.jobs.create(
            model="support-1",
            training_file=file_id,
            extra_body={"hyperparameters": full, "rollout": {"steps": [50, 100]}},
        )
    assert refused.value.param == "rollout"
