"""Lineage goes from data files to rollouts and back, and shows what was deleted as deleted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
from google.protobuf.json_format import ParseError  # type: ignore[import-untyped, unused-ignore]
from safetensors.numpy import load_file, save_file

from registry.database import Registry
from registry.errors import Conflict, NotFound, NotServable
from registry.evaluations.evaluation import EvaluationAnswer, EvaluationDraft, PinnedModel
from registry.lineage.lineage import lineage_of
from registry.lineage.node import LineageNode, NodeKind, NodeState
from registry.lineage.statement import FOLDER_DIGEST, statement_of
from registry.publishing.checkpoints import delete_checkpoint, publish_checkpoint
from registry.publishing.publish import publish
from registry.pulled.pulled_model import PulledFile, PulledModel
from registry.pulled.pulled_models import enter_pulled
from registry.rollouts.rollout import RolloutPlan, weighted
from registry.types import Base, CheckpointDraft, File, RevisionDraft
from tests.conftest import HIDDEN
from tests.hubs.hub_server import COMMIT
from tests.registry.lineage.attestations import check_statement


class Scene(NamedTuple):
    """`support@1`, trained on a signed-off file, on a pulled model, and merged into the checkpoint `kept-1`."""

    registry: Registry
    file: File
    base: Base
    merged: Base


@pytest.fixture
def scene(
    registry: Registry, base: Base, base_folder: Path, make_adapter: Callable[..., Path], tmp_path: Path
) -> Scene:
    (base_folder / "config.json").write_text(json.dumps({"model_type": "llama", "hidden_size": HIDDEN}))
    files = {"model.safetensors": PulledFile(size_bytes=1, sha256="a" * 64, hub_hash=None)}
    pulled = PulledModel(
        hub="huggingface", id="acme/tiny", commit=COMMIT, asked_revision="main", pulled_by="ann", pulled_at=5.0,
        files=files, remote_code=False,
    )  # fmt: skip
    entered = enter_pulled(registry, replace(base, name="", provenance=pulled.as_provenance()), pulled)
    file = registry.files.add([b"rows\n"], filename="chats.jsonl", purpose="fine-tune", owner="ann")
    registry.reports.sign(file.digest, file.tenant, "eve", 3, [{"line": 1, "verdict": "good"}])
    known = {"id": file.id, "filename": file.filename, "sha256": file.digest, "size_bytes": file.size_bytes}
    made = {"dataset": known, "seed": 7, "hyperparameters": {"lora_rank": 2}, "versions": {"torch": "2"}}
    publish(registry, make_adapter(), RevisionDraft(adapter="support", base=entered.name, owner="ann", provenance=made))
    folder = tmp_path / "merged"
    shutil.copytree(base_folder, folder)
    (folder / "tokenizer_config.json").write_text("{}")
    weights = load_file(folder / "model.safetensors")
    save_file({name: one + 1 for name, one in weights.items()}, folder / "model.safetensors")
    revision = registry.adapters.named("support@1")
    merge = {
        "source": "merge",
        "adapter": {"name": "support@1", "artifact": revision.artifact},
        "base": {"name": entered.name, "digest": entered.digest},
    }
    draft = CheckpointDraft(
        series="kept", parent=entered.name, owner="bob", tenant="local", is_shared=True, provenance=merge
    )
    return Scene(registry, file, entered, publish_checkpoint(registry, folder, draft))


def all_nodes(node: LineageNode) -> Iterator[LineageNode]:
    yield node
    for part in node.parts:
        yield from all_nodes(part)


def kinds(node: LineageNode, kind: NodeKind) -> list[LineageNode]:
    return [each for each in all_nodes(node) if each.kind is kind]


def test_a_revision_names_its_base_at_a_commit_its_rollouts_and_what_was_made_of_it(scene: Scene) -> None:
    registry = scene.registry
    registry.adapters.set_first_stable("support", 1, "first")
    publish_second(registry)
    rollout = registry.rollouts.start("support", 2, RolloutPlan(steps=weighted(50, 100)), "dan")
    lineage = lineage_of(registry, "support@1")
    (base,) = kinds(lineage.node, NodeKind.BASE)
    assert (base.name, base.digest, base.relation) == ("acme/tiny", scene.base.digest, "base")
    (repository,) = kinds(lineage.node, NodeKind.REPOSITORY)
    assert (repository.name, repository.by) == (f"huggingface:acme/tiny@{COMMIT}", "ann")
    assert [(each.name, each.relation) for each in lineage.became] == [("kept-1", "merged into")]
    second = lineage_of(registry, "support@2").node
    (found,) = kinds(second, NodeKind.ROLLOUT)
    assert (found.name, found.by, found.facts["outcome"]) == (rollout.id, "dan", "pending")
    assert {act.by for act in kinds(lineage.node, NodeKind.ACT)} >= {"ann"}


def publish_second(registry: Registry) -> None:
    first = registry.adapters.named("support@1")
    folder = registry.artifacts.folder(first.artifact)
    publish(
        registry, folder, RevisionDraft(adapter="support", base=first.base, owner="ann", provenance={"source": "x"})
    )


def test_a_checkpoint_goes_back_over_its_adapter_to_the_base(scene: Scene) -> None:
    node = lineage_of(scene.registry, "kept-1").node
    assert [(part.relation, part.name) for part in node.parts[:2]] == [("base", "acme/tiny"), ("adapter", "support@1")]
    for asked in ("acme/tiny", f"acme/tiny@{COMMIT}"):
        became = lineage_of(scene.registry, asked).became
        assert {(each.name, each.relation) for each in became} == {
            ("support@1", "trained on it"),
            ("kept-1", "made from it"),
        }


def test_a_file_by_id_or_digest_shows_its_sign_offs_and_what_was_trained_on_it(scene: Scene) -> None:
    for asked in (scene.file.id, scene.file.digest):
        lineage = lineage_of(scene.registry, asked)
        (review,) = kinds(lineage.node, NodeKind.REVIEW)
        assert (review.by, review.facts["rows"], review.facts["bad"]) == ("eve", 1, 0)
        assert [(each.name, each.relation) for each in lineage.became] == [("support@1", "trained on it")]
    scene.registry.files.delete(scene.file.id)
    assert lineage_of(scene.registry, scene.file.digest).node.state is NodeState.DELETED


def test_a_checkpoint_that_was_deleted_is_shown_as_deleted_with_who_did_it(scene: Scene) -> None:
    delete_checkpoint(scene.registry, "kept-1", "zoe")
    node = lineage_of(scene.registry, "kept-1").node
    assert (node.kind, node.state, node.digest) == (NodeKind.CHECKPOINT, NodeState.DELETED, scene.merged.digest)
    assert [(act.name, act.by) for act in kinds(node, NodeKind.ACT)][-1] == ("checkpoint.delete", "zoe")
    with pytest.raises(NotServable, match="'kept-1' is deleted, which has no files"):
        statement_of(scene.registry, "kept-1")


def test_scores_belong_to_exactly_these_weights(scene: Scene) -> None:
    registry, revision = scene.registry, scene.registry.adapters.named("support@1")
    for digest in (revision.artifact, "f" * 64):
        pinned = PinnedModel(
            served_name="support@1", digest=digest, base=scene.base.name, base_digest=scene.base.digest
        )
        draft = EvaluationDraft(
            asked_name="support",
            model=pinned,
            judges={},
            suite_name="greetings",
            suite_digest="c" * 64,
            total=1,
            owner="eve",
            tenant="local",
            key_id="",
            timeout_s=1.0,
        )
        hold = registry.evaluations.claim(registry.evaluations.create(draft), "g1")
        assert hold is not None
        registry.evaluations.record(
            hold, [EvaluationAnswer(row=1, row_id="1", answer="Hi", score=1.0, has_passed=True)]
        )
        registry.evaluations.complete(hold, {"overall": {"score": 1.0, "low": 0.2, "high": 1.0}})
    (scored,) = kinds(lineage_of(registry, "support@1").node, NodeKind.EVALUATION)
    assert (scored.by, scored.facts["suite"], scored.facts["scores"]["score"]) == ("eve", "greetings", 1.0)


def test_a_name_that_is_not_there_suggests_one(scene: Scene) -> None:
    with pytest.raises(NotFound, match="did you mean 'support'"):
        lineage_of(scene.registry, "suport")
    with pytest.raises(NotFound):
        lineage_of(scene.registry, "support@9")


def test_an_id_with_two_commits_has_to_be_told_apart(scene: Scene) -> None:
    later = replace(scene.base, name="", digest="d" * 64)
    pulled = PulledModel(
        hub="huggingface", id="acme/tiny", commit="f" * 40, asked_revision=None, pulled_by="ann", pulled_at=6.0,
        files={}, remote_code=False,
    )  # fmt: skip
    enter_pulled(scene.registry, replace(later, provenance=pulled.as_provenance()), pulled)
    with pytest.raises(Conflict, match="pulled 2 times"):
        lineage_of(scene.registry, "acme/tiny")
    assert lineage_of(scene.registry, "acme/tiny@fffffff").node.digest == "d" * 64


@pytest.mark.parametrize("name", ["support@1", "kept-1", "acme/tiny"])
def test_the_statement_has_the_forms_of_in_toto_and_slsa(scene: Scene, name: str) -> None:
    statement = statement_of(scene.registry, name)
    check_statement(statement)
    with pytest.raises(ParseError, match="odd"):
        check_statement({**statement, "odd": 1})
    assert all(subject["name"].startswith(f"{name}/") for subject in statement["subject"])
    assert statement["subject"]
    dependencies = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    hub = [each for each in dependencies if each.get("uri", "").endswith(f"{COMMIT}/model.safetensors")]
    assert [each["digest"] for each in hub][:1] == [{"sha256": "a" * 64, "gitCommit": COMMIT}]
    if name == "kept-1":
        named = {each["name"]: each["digest"] for each in dependencies if FOLDER_DIGEST in each["digest"]}
        assert set(named) == {"acme/tiny", "support@1"}
