"""Fine-tuned models are shared with other tenants and deleted, by those to whom they belong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import openai
import pytest
from openai.types import Model

from gateway.errors import ModelNotFound
from gateway.keys.access import check_model
from gateway.keys.caller import ANYBODY
from gateway.routing.route_table import build_table
from registry.keys import Scope
from registry.publishing.publish import publish
from registry.types import RevisionDraft
from tests.gateway.openai.test_openai_face import upload
from tests.gateway.openai.test_tenants import BOTH, Tenants, tenants, train

__all__ = ["tenants"]

FIRST, SECOND = "ft:tiny:lorry:tone:1", "ft:tiny:lorry:tone:2"


@pytest.fixture
def ann(tenants: Tenants, make_adapter: Callable[..., Path]) -> openai.OpenAI:
    """The owner of `tone@1`, which is stable, and `tone@2`."""
    client = tenants.client("ann")
    train(client, upload(client))
    for seed, alias in ((1, FIRST), (2, SECOND)):
        publish(
            tenants.registry, make_adapter(seed), RevisionDraft(adapter="tone", base="tiny", owner="ann", alias=alias)
        )
    tenants.registry.adapters.set_first_stable("tone", 1, reason="first_revision")
    return client


def listed(client: openai.OpenAI) -> set[str]:
    return {model.id for model in client.models.list()}


def test_a_deleted_model_is_retired_and_gone(tenants: Tenants, ann: openai.OpenAI) -> None:
    told = ann.models.delete(SECOND)
    assert (told.id, told.object, told.deleted) == (SECOND, "model", True)
    assert listed(ann) == {"tiny", "tone", "tone@1", FIRST}
    for call in (ann.models.retrieve, ann.models.delete):
        with pytest.raises(openai.NotFoundError):
            call(SECOND)
    assert tenants.registry.audit.list(limit=1)[0].action == "revision.retire"


def test_names_with_slashes_and_colons_are_found_however_they_are_written(tenants: Tenants, ann: openai.OpenAI) -> None:
    tenants.registry.bases.enter(replace(tenants.registry.bases.get("tiny"), name="HuggingFaceTB/SmolLM2"))
    for name in ("HuggingFaceTB/SmolLM2", FIRST, "tone@1", "tone"):
        assert ann.models.retrieve(name).id == name
        for path in (name, quote(name, safe="")):
            assert ann.get(f"/models/{path}", cast_to=Model).id == name
    with pytest.raises(openai.PermissionDeniedError, match="is a base model"):
        ann.models.delete("HuggingFaceTB/SmolLM2")
    with pytest.raises(openai.NotFoundError):
        ann.models.retrieve("HuggingFaceTB/SmolLM3")
    assert ann.models.delete(SECOND).deleted


def test_the_last_revision_takes_its_adapter_along_and_the_name_can_be_trained_again(
    tenants: Tenants, ann: openai.OpenAI, make_adapter: Callable[..., Path]
) -> None:
    with pytest.raises(openai.ConflictError, match="is the stable revision; roll out another one first"):
        ann.models.delete(FIRST)
    ann.models.delete("tone@2")
    assert ann.models.delete(FIRST).deleted
    assert listed(ann) == {"tiny"}
    assert "tone" not in build_table(tenants.registry.snapshot()).routes
    draft = RevisionDraft(adapter="tone", base="tiny", owner="ann")
    assert publish(tenants.registry, make_adapter(3), draft).served_name == "tone@3"
    tenants.registry.adapters.set_first_stable("tone", 3, reason="first_revision")
    assert listed(ann) == {"tiny", "tone", "tone@3"}


def test_only_its_owner_and_admins_delete_a_model(tenants: Tenants, ann: openai.OpenAI) -> None:
    bob, root = tenants.client("bob"), tenants.client("ops", frozenset(Scope))
    with pytest.raises(openai.NotFoundError):
        bob.models.delete(SECOND)
    named = tenants.client("named", models=frozenset({"tone"}))
    with pytest.raises(openai.PermissionDeniedError, match="belongs to another tenant"):
        named.models.delete(SECOND)
    for name in ("tiny", "tone"):
        with pytest.raises(openai.PermissionDeniedError, match="cannot be deleted: it is a base model or an adapter"):
            root.models.delete(name)
    chats = tenants.client("chats", frozenset({Scope.INFERENCE}), tenant="ann")
    with pytest.raises(openai.PermissionDeniedError, match="lacks the scope admin or training"):
        chats.models.delete(SECOND)
    assert root.models.delete(SECOND).deleted


@pytest.mark.long
def test_a_permission_opens_one_revision_to_one_tenant(tenants: Tenants, ann: openai.OpenAI) -> None:
    bob = tenants.client("bob")
    permissions = ann.fine_tuning.checkpoints.permissions
    made = permissions.create(SECOND, project_ids=["bob", "carol"])
    assert [each.project_id for each in made] == ["bob", "carol"]
    assert [each.id for each in permissions.create("tone@2", project_ids=["bob"])] == [made.data[0].id]
    assert listed(bob) == {"tiny", "tone@2", SECOND}
    with pytest.raises(openai.NotFoundError):
        bob.models.retrieve("tone@1")
    with pytest.raises(openai.PermissionDeniedError, match="belongs to another tenant"):
        bob.models.delete(SECOND)
    with pytest.raises(openai.PermissionDeniedError, match="belongs to another tenant"):
        bob.fine_tuning.checkpoints.permissions.create(SECOND, project_ids=["dave"])
    table = build_table(tenants.registry.snapshot())
    caller = replace(ANYBODY, name="bob", tenant="bob", scopes=BOTH)
    check_model(caller, table, SECOND)
    with pytest.raises(ModelNotFound, match="does not exist"):
        check_model(caller, table, "tone")
    gone = permissions.delete(made.data[0].id, fine_tuned_model_checkpoint=SECOND)
    assert (gone.id, gone.object, gone.deleted) == (made.data[0].id, "checkpoint.permission", True)
    assert listed(bob) == {"tiny"}
    with pytest.raises(openai.NotFoundError):
        permissions.delete(made.data[0].id, fine_tuned_model_checkpoint=SECOND)


def test_permissions_are_listed_page_by_page(ann: openai.OpenAI) -> None:
    permissions = ann.fine_tuning.checkpoints.permissions
    projects = [f"team-{number}" for number in range(5)]
    permissions.create(SECOND, project_ids=projects)

    def found(**query: Any) -> list[str]:
        return [each.project_id for each in permissions.list(SECOND, **query)]

    assert found(limit=2) == projects[::-1]
    assert found(order="ascending", limit=3) == projects
    assert found(project_id="team-3") == ["team-3"]
    page = permissions.list(SECOND, limit=2)
    assert (page.has_more, page.last_id) == (True, page.data[1].id)
    with pytest.raises(openai.BadRequestError, match="to continue after"):
        permissions.list(SECOND, after="cp_none")
    with pytest.raises(openai.NotFoundError):
        permissions.list("ft:tiny:lorry:tone:none")
    with pytest.raises(openai.BadRequestError) as refused:
        permissions.create(SECOND, project_ids=["not a name!"])
    assert refused.value.param == "project_ids.0"
