"""A checkpoint is a base model with its own digest and lineage; a refused or deleted one leaves nothing behind."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from registry.contracts.methods.supervised_spec import SupervisedSpec
from registry.database import Registry, open_registry
from registry.errors import AdapterRejected, Conflict, NotFound, StaleState
from registry.jobs.adapter_owners import Claim
from registry.jobs.job import Lease
from registry.jobs.job_state import JobState
from registry.publishing.checkpoints import delete_checkpoint, expire_checkpoints, publish_checkpoint
from registry.publishing.publish import publish
from registry.settings import RegistrySettings
from registry.types import Adapter, Base, CheckpointDraft, RevisionDraft, ServedCheckpointDraft
from tests.clock import Clock
from tests.registry.publishing.adapter_folders import Make

DRAFT = CheckpointDraft(series="support", parent="tiny", owner="ann", tenant="red", is_shared=False)
Change = Callable[[dict[str, Any]], dict[str, Any]]


@pytest.fixture
def make_checkpoint(base_folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """Copies the tiny base with its tensors changed."""

    def make(change: Change = lambda tensors: {name: one + 0.5 for name, one in tensors.items()}) -> Path:
        folder = tmp_path / f"checkpoint-{len(list(tmp_path.iterdir()))}"
        shutil.copytree(base_folder, folder)
        (folder / "tokenizer_config.json").write_text("{}")
        save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors")
        return folder

    return make


@pytest.fixture
def lease(registry: Registry, base: Base, spec: SupervisedSpec) -> Lease:
    """The lease of a running job of the tenant `red`."""
    registry.bases.enter(base)
    registry.jobs.create(spec, "ann", Claim(tenant="red", shares=False, may_take_any=False))
    claimed = registry.jobs.claim("worker-1", 30)
    assert claimed is not None
    return claimed


def left_behind(tmp_path: Path) -> tuple[int, int]:
    root = tmp_path / "artifacts"
    return len(list((root / "folders").iterdir())), len(list((root / "staging").iterdir()))


def test_a_job_succeeds_together_with_its_checkpoint(
    registry: Registry, base: Base, lease: Lease, make_checkpoint: Callable[..., Path]
) -> None:
    draft = replace(DRAFT, provenance={"seed": 7})
    made = publish_checkpoint(registry, make_checkpoint(), draft, lease=lease, trained_tokens=9, results=b"step\n")
    assert (made.name, made.parent, made.job_id, made.owner) == ("support-1", "tiny", lease.job_id, "ann")
    assert made.digest != base.digest
    assert made.licence == base.licence
    assert made.provenance == {"seed": 7}
    assert registry.artifacts.folder(made.digest) == Path(made.path)
    job = registry.jobs.get(lease.job_id)
    assert (job.state, job.fine_tuned_model, job.revision, job.trained_tokens) == (
        JobState.SUCCEEDED,
        "support-1",
        None,
        9,
    )
    assert job.result_file is not None
    owner = registry.owners.get("support-1")
    assert owner is not None
    assert (owner.tenant, owner.is_shared) == ("red", False)
    assert registry.recover() == []
    assert registry.artifacts.folder(made.digest).is_dir()


def test_earlier_steps_are_whole_models_that_go_when_their_time_is_over(
    registry: Registry, base: Base, lease: Lease, make_checkpoint: Callable[..., Path], clock: Clock
) -> None:
    early, expires_at = make_checkpoint(lambda found: {name: one + 0.25 for name, one in found.items()}), clock() + 50
    for step in (5, 7, 10):
        registry.jobs.add_checkpoint(lease, step, {})
    steps = (
        ServedCheckpointDraft(step=5, alias="ft:5", folder=early, expires_at=expires_at),
        ServedCheckpointDraft(step=10, alias="ft:10", folder=None, expires_at=None),
    )
    draft = replace(DRAFT, steps=steps, provenance={"seed": 7, "metrics": {"step": 10}})
    made = publish_checkpoint(registry, make_checkpoint(), draft, lease=lease)
    assert registry.bases.get("support-1-step-5").provenance == {"seed": 7}
    found = {each.name: each for each in registry.bases.list()}
    assert sorted(found) == ["support-1", "support-1-step-5", "tiny"]
    step_5 = found["support-1-step-5"]
    assert (made.step, made.alias, made.expires_at) == (10, "ft:10", None)
    assert (step_5.step, step_5.alias, step_5.parent, step_5.job_id) == (5, "ft:5", "tiny", lease.job_id)
    assert Path(step_5.path) == registry.artifacts.folder(step_5.digest) != Path(made.path)
    owner = registry.owners.get("support-1-step-5")
    assert owner is not None
    assert (owner.tenant, owner.is_shared) == ("red", False)
    assert [each.global_step for each in registry.jobs.checkpoints(lease.job_id)] == [10, 5]
    assert expire_checkpoints(registry, registry.snapshot()) == []
    clock.advance(50)
    used = replace(registry.snapshot(), adapters=(adapter_on("support-1-step-5"),))
    assert expire_checkpoints(registry, used) == []
    assert expire_checkpoints(registry, registry.snapshot()) == ["support-1-step-5"]
    assert not registry.artifacts.has_folder(step_5.digest)
    assert [each.name for each in registry.bases.list()] == ["support-1", "tiny"]


def adapter_on(base: str) -> Adapter:
    return Adapter(name="tone", base=base, stable=None, previous_stable=None, stable_since=None, created_at=1.0)


def test_checkpoints_of_a_series_get_the_next_free_name(
    registry: Registry, base: Base, lease: Lease, make_checkpoint: Callable[..., Path], make_adapter: Make
) -> None:
    publish(registry, make_adapter(), RevisionDraft(adapter="support-2", base="tiny", owner="ann"))
    draft = replace(DRAFT, series="s" * 64)
    names = [publish_checkpoint(registry, make_checkpoint(), DRAFT).name for _ in range(2)]
    assert [*names, publish_checkpoint(registry, make_checkpoint(), draft).name] == [
        "support-1",
        "support-3",
        "s" * 62 + "-1",
    ]
    with pytest.raises(Conflict, match="'support-1' is the name of a base model"):
        publish(registry, make_adapter(), RevisionDraft(adapter="support-1", base="tiny", owner="ann"))


def test_adapters_and_further_checkpoints_stand_on_a_checkpoint(
    registry: Registry, lease: Lease, make_checkpoint: Callable[..., Path]
) -> None:
    first = publish_checkpoint(registry, make_checkpoint(), DRAFT)
    further = replace(DRAFT, parent=first.name, series="tone")
    second = publish_checkpoint(registry, make_checkpoint(lambda old: {n: o - 1 for n, o in old.items()}), further)
    assert (second.name, second.parent) == ("tone-1", "support-1")
    assert [base.name for base in registry.snapshot().bases] == ["support-1", "tiny", "tone-1"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda old: old, "no effect: all of its weights are those of its parent"),
        (lambda old: {name: one * np.nan for name, one in old.items()}, "not finite"),
        (lambda old: {name: one[:1] for name, one in old.items()}, "are not those of its parent"),
        (lambda old: old | {"more": np.ones(3, np.float32)}, "more is .3., expected none"),
    ],
)
def test_weights_that_no_pool_could_serve_are_refused_and_leave_nothing(
    registry: Registry, lease: Lease, make_checkpoint: Callable[..., Path], tmp_path: Path, change: Change, why: str
) -> None:
    with pytest.raises(AdapterRejected, match=why):
        publish_checkpoint(registry, make_checkpoint(change), DRAFT, lease=lease)
    assert left_behind(tmp_path) == (0, 0)
    assert registry.jobs.get(lease.job_id).state is JobState.RUNNING


def test_files_that_run_code_and_missing_ones_are_refused(
    registry: Registry, lease: Lease, make_checkpoint: Callable[..., Path]
) -> None:
    pickled, headless = make_checkpoint(), make_checkpoint()
    (pickled / "training_args.bin").write_bytes(b"\x80")
    (headless / "config.json").unlink()
    with pytest.raises(AdapterRejected, match=r"training_args.bin: not part of a checkpoint"):
        publish_checkpoint(registry, pickled, DRAFT)
    with pytest.raises(AdapterRejected, match=r"config.json: missing"):
        publish_checkpoint(registry, headless, DRAFT)


def test_a_cancelled_job_publishes_no_checkpoint(
    registry: Registry, lease: Lease, make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    registry.jobs.request_cancel(lease.job_id, "ann")
    with pytest.raises(StaleState, match="asked to cancel"):
        publish_checkpoint(registry, make_checkpoint(), DRAFT, lease=lease)
    assert left_behind(tmp_path) == (0, 0)
    assert [base.name for base in registry.bases.list()] == ["tiny"]


def test_deleting_a_checkpoint_removes_its_bytes_once_nothing_uses_it(
    registry: Registry, lease: Lease, make_checkpoint: Callable[..., Path], make_adapter: Make, spec: SupervisedSpec
) -> None:
    made = publish_checkpoint(registry, make_checkpoint(), DRAFT)
    job = registry.jobs.create(spec.model_copy(update={"base": made.name, "adapter": "other"}), "ann")
    with pytest.raises(Conflict, match=f"in use by job {job.id}"):
        delete_checkpoint(registry, made.name, "ann")
    registry.jobs.request_cancel(job.id, "ann")
    with pytest.raises(Conflict, match="entered from a folder"):
        delete_checkpoint(registry, "tiny", "ann")
    delete_checkpoint(registry, made.name, "ann")
    assert not registry.artifacts.has_folder(made.digest)
    assert registry.owners.get(made.name) is None
    with pytest.raises(NotFound, match="there are: tiny"):
        delete_checkpoint(registry, made.name, "ann")
    assert registry.audit.list()[0].action == "checkpoint.delete"


def test_a_checkpoint_moves_with_the_folder_of_artifacts(
    sqlite_settings: RegistrySettings, base: Base, make_checkpoint: Callable[..., Path], tmp_path: Path, clock: Clock
) -> None:
    first = open_registry(sqlite_settings, clock)
    first.bases.enter(base)
    made = publish_checkpoint(first, make_checkpoint(), DRAFT)
    first.close()
    Path(sqlite_settings.artifacts).rename(tmp_path / "moved")
    second = open_registry(sqlite_settings.model_copy(update={"artifacts": tmp_path / "moved"}), clock)
    assert second.bases.get(made.name).path == str(tmp_path / "moved" / "folders" / made.digest)
    second.close()
