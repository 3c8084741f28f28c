"""Two tenants on one gateway: neither sees, reads, deletes, cancels, trains on or uses what the other has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import openai
import pytest
from starlette.testclient import TestClient

from gateway.app import build_app, build_gateway
from gateway.errors import ModelNotAllowed, ModelNotFound
from gateway.keys.access import check_model, unknown_model, visible_names
from gateway.keys.caller import ANYBODY
from gateway.routing.routing import RouteTable
from gateway.settings import GatewaySettings
from registry.database import Registry
from registry.keys import KeyDraft, Scope
from registry.publishing.publish import publish
from registry.types import Base, RevisionDraft
from tests.gateway.openai.test_openai_face import SMALL, upload
from tests.waiting import wait_for

BOTH = frozenset({Scope.INFERENCE, Scope.TRAINING})


@dataclass
class Tenants:
    """A gateway; `client` gives the SDK's client of a new key."""

    registry: Registry
    http: TestClient

    def client(self, name: str, scopes: frozenset[Scope] = BOTH, **fields: Any) -> openai.OpenAI:
        secret = self.registry.keys.create(KeyDraft(name=name, scopes=scopes, **fields), "root").secret
        wait_for(lambda: self.http.get("/v1/models", headers={"authorization": f"Bearer {secret}"}).status_code == 200)
        return openai.OpenAI(base_url="http://testserver/v1", api_key=secret, http_client=self.http, max_retries=0)


@pytest.fixture
def tenants(sqlite_registry: Registry, base: Base) -> Iterator[Tenants]:
    sqlite_registry.bases.enter(base)
    sqlite_registry.keys.create(KeyDraft(name="root", scopes=frozenset(Scope)), "ann")
    with TestClient(build_app(build_gateway(GatewaySettings(route_refresh_s=0.02), sqlite_registry))) as http:
        yield Tenants(sqlite_registry, http)


def train(client: openai.OpenAI, file_id: str, suffix: str = "tone", **more: Any) -> Any:
    body = {"hyperparameters": SMALL} | more
    return client.fine_tuning.jobs.create(model="tiny", training_file=file_id, suffix=suffix, extra_body=body)


@pytest.mark.long
def test_files_and_jobs_of_another_tenant_do_not_exist(tenants: Tenants) -> None:
    ann, bob = tenants.client("ann"), tenants.client("bob")
    file_id = upload(ann)
    job = train(ann, file_id)
    calls: list[Callable[[], Any]] = [
        lambda: bob.files.retrieve(file_id),
        lambda: bob.files.content(file_id),
        lambda: bob.files.delete(file_id),
        lambda: list(bob.files.list(after=file_id)),
        lambda: bob.fine_tuning.jobs.retrieve(job.id),
        lambda: bob.fine_tuning.jobs.cancel(job.id),
        lambda: bob.fine_tuning.jobs.pause(job.id),
        lambda: bob.fine_tuning.jobs.resume(job.id),
        lambda: bob.fine_tuning.jobs.list_events(job.id),
        lambda: bob.fine_tuning.jobs.checkpoints.list(job.id),
        lambda: list(bob.fine_tuning.jobs.list(after=job.id)),
    ]
    for call in calls:
        with pytest.raises(openai.NotFoundError) as refused:
            call()
        assert "tone" not in str(refused.value)
    with pytest.raises(openai.BadRequestError, match=f"training_file '{file_id}' does not exist"):
        train(bob, file_id, "other")
    assert [*bob.files.list(), *bob.fine_tuning.jobs.list()] == []
    assert ann.fine_tuning.jobs.retrieve(job.id).status == "queued"
    assert [file.id for file in ann.files.list()] == [file_id]


@pytest.mark.long
def test_a_name_that_a_job_of_another_tenant_is_for_is_taken_until_that_job_has_ended(tenants: Tenants) -> None:
    ann, bob = tenants.client("ann"), tenants.client("bob")
    job = train(ann, upload(ann))
    with pytest.raises(openai.ConflictError, match="'tone' is taken by an adapter of another tenant"):
        train(bob, upload(bob))
    ann.fine_tuning.jobs.cancel(job.id)
    assert train(bob, upload(bob)).status == "queued"
    assert tenants.registry.owners.get("tone").tenant == "bob"  # type: ignore[union-attr]


@pytest.mark.long
def test_keys_of_one_tenant_share_and_an_admin_key_sees_all(tenants: Tenants) -> None:
    ann, team_mate = tenants.client("ann"), tenants.client("ann-at-night", tenant="ann")
    root = tenants.client("ops", frozenset(Scope))
    file_id = upload(ann)
    job = train(team_mate, file_id)
    for client in (ann, team_mate, root):
        assert [file.id for file in client.files.list()] == [file_id]
        assert [each.id for each in client.fine_tuning.jobs.list()] == [job.id]
    assert root.fine_tuning.jobs.cancel(job.id).status == "cancelled"


@pytest.mark.long
def test_an_adapter_is_its_tenants_until_it_is_shared(tenants: Tenants, make_adapter: Callable[..., Path]) -> None:
    ann, bob = tenants.client("ann"), tenants.client("bob")
    train(ann, upload(ann))
    publish(tenants.registry, make_adapter(1), RevisionDraft(adapter="tone", base="tiny", owner="ann"))
    named = tenants.client("named", models=frozenset({"tone"}))
    root = tenants.client("ops", frozenset(Scope))
    assert {model.id for model in ann.models.list()} == {"tiny", "tone", "tone@1"}
    assert {model.id for model in named.models.list()} == {"tone", "tone@1"}
    assert {model.id for model in bob.models.list()} == {"tiny"}
    for model in ("tone", "tone@1"):
        with pytest.raises(openai.NotFoundError, match="Models here: tiny"):
            bob.models.retrieve(model)
    with pytest.raises(openai.ConflictError, match="'tone' is taken"):
        train(bob, upload(bob))
    with pytest.raises(openai.BadRequestError, match=r"shadow_judge: .*Models here: tiny\."):
        train(bob, upload(bob), "mine", rollout={"steps": ["shadow:10", 100], "shadow_judge": "tone"})
    assert train(named, upload(named)).status == "queued"
    headers = {"authorization": f"Bearer {root.api_key}"}
    shared = tenants.http.put("/admin/adapters/tone/owner", json={"shared": True}, headers=headers)
    assert shared.json() == {"adapter": "tone", "tenant": "ann", "shared": True}
    assert {model.id for model in bob.models.list()} == {"tiny", "tone", "tone@1"}
    with pytest.raises(openai.ConflictError, match="'tone' is taken"):
        train(bob, upload(bob))
    tenants.http.put("/admin/adapters/tone/owner", json={"tenant": "bob"}, headers=headers)
    assert train(bob, upload(bob)).status == "queued"
    told = tenants.http.get("/admin/adapters", headers=headers).json()["data"][0]
    assert (told["tenant"], told["shared"]) == ("bob", True)


def test_only_an_admin_key_rolls_out_without_a_judge(tenants: Tenants) -> None:
    ann, root = tenants.client("ann"), tenants.client("ops", frozenset(Scope))
    unjudged = {"steps": [100], "judge": False}
    with pytest.raises(openai.PermissionDeniedError, match="may start rollouts with a judge only") as refused:
        train(ann, upload(ann), rollout=unjudged)
    assert refused.value.code == "judge_required"
    assert train(ann, upload(ann), rollout={"steps": [50, 100]}).status == "queued"
    assert train(root, upload(root), "ops", rollout=unjudged).status == "queued"


def test_what_an_admin_key_makes_is_for_every_key_unless_it_works_for_a_tenant(tenants: Tenants) -> None:
    for name, tenant in (("ops", ""), ("ops-of-ann", "ann")):
        client = tenants.client(name, frozenset(Scope), tenant=tenant)
        train(client, upload(client), f"by-{name}")
    owners = {owner.adapter: (owner.tenant, owner.is_shared) for owner in tenants.registry.snapshot().owners}
    assert owners == {"by-ops": ("ops", True), "by-ops-of-ann": ("ann", False)}


TABLE = RouteTable(
    bases=frozenset({"tiny"}), pinned={"tone@1": "tiny", "mood@1": "tiny"}, private={"tone": "ann", "mood": "bob"}
)


@pytest.mark.parametrize(
    ("fields", "listed"),
    [
        ({}, ["tiny", "tone@1"]),
        ({"models": frozenset({"mood", "gone"})}, ["mood@1"]),
        ({"scopes": frozenset(Scope)}, ["mood@1", "tiny", "tone@1"]),
    ],
)
def test_errors_list_only_what_the_caller_may_use(fields: dict[str, Any], listed: list[str]) -> None:
    caller = replace(ANYBODY, name="ann", tenant="ann", **({"scopes": BOTH} | fields))
    assert visible_names(caller, TABLE) == listed
    assert str(unknown_model(caller, TABLE, "nope")).endswith(f"Models here: {', '.join(listed)}.")
    assert len(str(unknown_model(caller, TABLE, "x" * 8_000_000))) < 1000
    for name in {*TABLE.bases, *TABLE.pinned} - set(listed):
        with pytest.raises((ModelNotFound, ModelNotAllowed)):
            check_model(caller, TABLE, name)
