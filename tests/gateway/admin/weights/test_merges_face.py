"""Merges over HTTP: queued for whoever owns the revision, and refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from starlette.testclient import TestClient

from gateway.app import build_app, build_gateway
from gateway.settings import GatewaySettings
from registry.database import Registry
from registry.keys import KeyDraft, Scope
from registry.publishing.publish import publish
from registry.publishing.score_head import SCORE_HEAD, SCORE_WEIGHT
from registry.states import AdapterKind
from registry.types import Base, RevisionDraft
from tests.conftest import HIDDEN
from tests.waiting import wait_for


@pytest.fixture
def http(two_revisions: Registry) -> Iterator[TestClient]:
    app = build_app(build_gateway(GatewaySettings(route_refresh_s=0.02), two_revisions))
    with TestClient(app, base_url="http://localhost") as client:
        yield client


def test_a_merge_is_a_job_for_a_checkpoint_named_after_the_adapter(http: TestClient, two_revisions: Registry) -> None:
    answer = http.post("/admin/merges", json={"model": "support@2"})
    made = answer.json()
    assert (answer.status_code, made["model"], made["base"], made["status"]) == (200, "support@2", "tiny", "queued")
    assert (made["checkpoint"], made["error"]) == (None, None)
    assert http.get(f"/admin/merges/{made['id']}").json() == made
    assert (
        http.get(f"/admin/jobs/{made['id']}").json()["spec"]["artifact"]
        == two_revisions.adapters.named("support@2").artifact
    )
    assert http.get("/admin/merges/ftjob-1").status_code == 404


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"model": "support@9"}, 404, "support"),
        ({"model": "support"}, 404, "a revision is named NAME@N"),
        ({"model": "tiny"}, 404, "a revision is named NAME@N"),
        ({"model": "support@2", "name": "Not Legal"}, 400, "'not-legal' would do"),
        ({"model": "support@2", "nmae": "x"}, 400, "nmae"),
        ({}, 400, "model"),
    ],
)
def test_what_cannot_be_merged_is_refused_with_the_reason(
    http: TestClient, body: dict[str, str], status: int, message: str
) -> None:
    answer = http.post("/admin/merges", json=body)
    assert answer.status_code == status
    assert message in answer.json()["error"]["message"]


def test_a_reward_model_and_a_quantized_base_are_refused_by_name(
    http: TestClient, two_revisions: Registry, make_adapter: Callable[..., Path], base: Base
) -> None:
    (Path(base.path) / "config.json").write_text(json.dumps({"hidden_size": HIDDEN}))
    folder = make_adapter()
    (folder / "fingerprint.json").unlink()
    save_file({SCORE_WEIGHT: np.ones((1, HIDDEN), np.float32)}, folder / SCORE_HEAD)
    draft = RevisionDraft(adapter="helpful", base="tiny", owner="ann", kind=AdapterKind.REWARD)
    publish(two_revisions, folder, draft)
    refused = http.post("/admin/merges", json={"model": "helpful@1"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "model")
    assert "helpful@1 is a reward model" in refused.json()["error"]["message"]

    weights = load_file(Path(base.path) / "model.safetensors")
    name = next(iter(weights))
    save_file(weights | {name: weights[name].astype(np.int8)}, Path(base.path) / "model.safetensors")
    refused = http.post("/admin/merges", json={"model": "support@2"})
    assert refused.status_code == 400
    assert f"the base model 'tiny' has quantized weights (model.safetensors: {name} is I8" in refused.text


def test_only_the_tenant_of_an_adapter_merges_it_and_sees_the_merge(http: TestClient, two_revisions: Registry) -> None:
    two_revisions.keys.create(KeyDraft(name="root", scopes=frozenset(Scope)), "root")
    two_revisions.owners.change("support", tenant="red", is_shared=True, actor="root")
    keys = {}
    for tenant, scope in (("red", Scope.TRAINING), ("blue", Scope.TRAINING), ("asks", Scope.INFERENCE)):
        draft = KeyDraft(name=tenant, scopes=frozenset({scope}), tenant=tenant)
        keys[tenant] = {"authorization": f"Bearer {two_revisions.keys.create(draft, 'root').secret}"}
        wait_for(lambda: http.get("/v1/models").status_code == 401)
        wait_for(partial(is_known, http, keys[tenant]))
    body = {"model": "support@2"}
    assert http.post("/admin/merges", json=body, headers=keys["asks"]).json()["error"]["code"] == "missing_scope"
    assert "belongs to another tenant" in http.post("/admin/merges", json=body, headers=keys["blue"]).text
    made = http.post("/admin/merges", json=body, headers=keys["red"])
    assert made.status_code == 200, made.text
    path = f"/admin/merges/{made.json()['id']}"
    assert http.get(path, headers=keys["red"]).status_code == 200
    assert http.get(path, headers=keys["blue"]).status_code == 404


def is_known(http: TestClient, headers: dict[str, str]) -> bool:
    return http.get("/v1/models", headers=headers).is_success
