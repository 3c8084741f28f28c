"""The job of a revision runs again and gives the same bytes, or a report on how far and why it differs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from safetensors.numpy import load_file, save_file

from registry import tables
from registry.contracts.extensions.integrations import Integration
from registry.contracts.reproductions.reproduction_report import REPORT, ReproductionReport
from registry.contracts.weights_spec import WeightsSpec
from registry.database import Registry
from registry.errors import NotFound, NotReproducible
from registry.jobs.job_state import JobState
from registry.publishing.publications import Upload, queue_publication
from registry.publishing.reproductions import queue_reproduction
from tests.engines.random_adapter import write_adapter
from tests.trainer.attempts import MakeJob, loss_curve, messages, work
from tests.trainer.forks.forked_children import ForkedChildren
from trainer.reproduction.losses_compared import MOST_STEPS, compare_losses
from trainer.reproduction.weights_compared import compare_weights, group_of
from trainer.settings import TrainerSettings


def report_of(registry: Registry, job_id: str) -> ReproductionReport:
    reports = [event.data[REPORT] for event in registry.jobs.events(job_id, limit=1000) if REPORT in event.data]
    (report,) = reports
    return ReproductionReport.model_validate(report)


def change_provenance(registry: Registry, **changes: Any) -> None:
    """As if the only revision had been made elsewhere."""
    revision = registry.adapters.revision("support", 1)
    with registry.transactions.write() as tx:
        tx.execute(sa.update(tables.revisions).values(provenance={**revision.provenance, **changes}))


@pytest.mark.trains
def test_the_job_of_a_revision_gives_the_same_bytes_again_and_publishes_nothing(
    registry: Registry, settings: TrainerSettings, make_job: MakeJob
) -> None:
    job = make_job(validates=True, integrations=(Integration(type="tensorboard"),))
    work(registry, settings.model_copy(update={"threads": 1}))
    assert (settings.work / job.id / "tracking").exists()
    made = registry.adapters.revision("support", 1)
    again = queue_reproduction(registry, "support@1", "ann")
    # the worker has other settings by now; the number of threads is the recorded one
    work(registry, settings.model_copy(update={"threads": 2}))
    ended = registry.jobs.get(again.id)
    assert (ended.state, ended.error, ended.revision) == (JobState.SUCCEEDED, None, None)
    report = report_of(registry, again.id)
    assert (report.same_bytes, report.digest, report.facts) == (True, made.artifact, [])
    assert report.weights.same_bytes
    assert (report.losses.compared, report.losses.differing, report.losses.missing) == (6, 0, 0)
    assert f"reproduced byte for byte (sha256 {made.artifact[:12]})" in report.verdict
    assert report.verdict in messages(registry, again.id)
    assert loss_curve(registry, again.id) == loss_curve(registry, job.id)
    assert [revision.number for revision in registry.adapters.revisions("support")] == [1]
    assert not list(settings.work.glob("*/*/final"))
    assert not (settings.work / again.id / "tracking").exists(), "trackers got the figures of the first run"


@pytest.mark.trains
def test_a_checkpoint_is_made_again_too(
    registry: Registry, settings: TrainerSettings, forks: ForkedChildren, make_job: MakeJob
) -> None:
    make_job(weights=WeightsSpec(merge=True))
    forks.work(registry, settings)
    made, early = (base for base in registry.bases.list() if base.is_checkpoint)
    with pytest.raises(NotReproducible, match=f"{early.name} is an earlier step of the job {early.job_id}"):
        queue_reproduction(registry, early.name, "ann")
    again = queue_reproduction(registry, made.name, "ann")
    forks.work(registry, settings)
    report = report_of(registry, again.id)
    assert (report.result, report.same_bytes, report.digest) == (made.name, True, made.digest)
    assert len(registry.bases.list()) == 3


@pytest.mark.trains
def test_a_result_that_another_machine_made_is_made_again_and_the_report_says_how_far_off_and_why(
    registry: Registry, settings: TrainerSettings, forks: ForkedChildren, make_job: MakeJob, home: Path
) -> None:
    job = make_job()
    forks.work(registry, settings)
    made = registry.adapters.revision("support", 1)
    other = home / "other"
    shutil.copytree(registry.artifacts.folder(made.artifact), other, copy_function=shutil.copyfile)
    weights = load_file(other / "adapter_model.safetensors")
    save_file(
        {name: tensor * np.float32(1.001) for name, tensor in weights.items()}, other / "adapter_model.safetensors"
    )
    with registry.artifacts.publishing() as staging:
        digest = staging.put_folder(other)
        with staging.committing() as install, registry.transactions.write() as tx:
            tx.execute(sa.update(tables.revisions).values(artifact=digest))
            install(None)
    change_provenance(
        registry, versions=dict(made.provenance["versions"]) | {"torch": "2.12.0"}, machine={"cpu": "Z80"}
    )
    with registry.transactions.write() as tx:
        step_1 = sa.and_(tables.job_events.c.job_id == job.id, tables.job_events.c.message.startswith("Step 1/"))
        data = tx.execute(sa.select(tables.job_events.c.data).where(step_1)).scalar_one()
        tx.execute(
            sa.update(tables.job_events).where(step_1).values(data=data | {"train_loss": data["train_loss"] + 0.5})
        )
    again = queue_reproduction(registry, str(made.alias), "ann")
    forks.work(registry, settings)
    assert registry.jobs.get(again.id).state is JobState.SUCCEEDED
    report = report_of(registry, again.id)
    assert not report.same_bytes
    assert report.differing_files == ["adapter_model.safetensors"]
    facts = {each.fact: (each.recorded, each.now) for each in report.facts}
    assert facts["torch"][0] == "2.12.0" != facts["torch"][1]
    assert facts["cpu"][0] == "Z80"
    assert facts["threads"] == (None, "1")
    assert {each.group for each in report.weights.groups} >= {"q_proj.lora_A", "down_proj.lora_B"}
    assert all(each.relative == pytest.approx(0.001, rel=0.01) for each in report.weights.groups)
    assert (report.losses.differing, report.losses.first_step) == (1, 1)
    assert report.losses.largest == pytest.approx(0.5)
    assert "torch 2.12.0 then" in report.verdict


def test_a_result_that_cannot_be_made_again_is_refused_with_every_reason(
    registry: Registry, make_job: MakeJob, tiny_base: Path, home: Path
) -> None:
    with pytest.raises(NotFound, match="NAME@N"):
        queue_reproduction(registry, "support", "ann")
    with pytest.raises(NotFound, match="no adapter 'support'"):
        queue_reproduction(registry, "support@1", "ann")
    folder = write_adapter(home / "brought", tiny_base, seed=1, rank=4, strength=0.3)
    brought = queue_publication(registry, Upload(folder=folder), adapter="brought", base="tiny", owner="ann")
    enter_revision(registry, brought.id, "brought", {})
    with pytest.raises(NotReproducible, match="no training to repeat"):
        queue_reproduction(registry, "brought@1", "ann")
    job = make_job(validates=True)
    file = registry.files.get(job.spec.files()["training_file"])
    facts = {"id": file.id, "filename": file.filename, "sha256": file.digest, "size_bytes": file.size_bytes}
    enter_revision(registry, job.id, "support", {"dataset": facts, "validation": facts})
    registry.jobs.request_cancel(job.id, "ann")
    registry.files.delete(file.id)
    with registry.transactions.write() as tx:
        tx.execute(sa.update(tables.bases).values(digest="0" * 64))
    with pytest.raises(NotReproducible) as caught:
        queue_reproduction(registry, "support@1", "ann")
    for reason in (
        f"training_file {file.id} (chats.jsonl",
        "validation_file",
        "was deleted",
        "base model tiny has chang",
    ):
        assert reason in str(caught.value)


def test_the_same_bytes_under_another_id_stand_in_for_a_file_that_was_deleted(
    registry: Registry, make_job: MakeJob
) -> None:
    job = make_job()
    file = registry.files.get(job.spec.files()["training_file"])
    facts = {"id": file.id, "filename": file.filename, "sha256": file.digest, "size_bytes": file.size_bytes}
    enter_revision(registry, job.id, "support", {"dataset": facts})
    other = make_job().spec.files()["training_file"]
    assert queue_reproduction(registry, "support@1", "ann").spec.files() == {"training_file": file.id}
    for each in registry.jobs.list():
        registry.jobs.request_cancel(each.id, "ann")
    registry.files.delete(file.id)
    assert queue_reproduction(registry, "support@1", "ann").spec.files() == {"training_file": other}


def enter_revision(registry: Registry, job_id: str, adapter: str, provenance: dict[str, Any]) -> None:
    """Enter a revision as if the job had made it, without its bytes."""
    row: dict[str, Any] = {"base": "tiny", "created_at": 1.0}
    with registry.transactions.write() as tx:
        tx.execute(sa.insert(tables.adapters).values(row | {"name": adapter}))
        made = {"adapter": adapter, "number": 1, "state": "ready", "artifact": "a" * 64, "base_digest": "b" * 64}
        made |= {"rank": 8, "target_modules": [], "job_id": job_id, "owner": "ann", "provenance": provenance}
        tx.execute(sa.insert(tables.revisions).values(row | made))


def test_weights_are_compared_by_kind_of_tensor(tmp_path: Path) -> None:
    names = [f"base_model.model.model.layers.{layer}.self_attn.q_proj.lora_A.weight" for layer in range(2)]
    ones = np.ones((2, 3), np.float32)
    for folder, weights in {
        "then": {names[0]: ones, names[1]: ones, "gone.weight": ones, "reshaped.weight": ones},
        "now": {names[0]: ones, names[1]: ones * 1.5, "new.weight": ones, "reshaped.weight": ones.T},
    }.items():
        (tmp_path / folder).mkdir()
        save_file(
            {name: np.ascontiguousarray(each) for name, each in weights.items()}, tmp_path / folder / "x.safetensors"
        )
    found = compare_weights(tmp_path / "then", tmp_path / "now")
    (group,) = found.groups
    assert (group.group, group.tensors, group.differing, group.largest) == ("q_proj.lora_A", 2, 1, 0.5)
    assert group.relative == pytest.approx(0.5 / 2**0.5)
    assert found.only_recorded == ["gone.weight", "reshaped.weight"]
    assert found.only_again == ["new.weight", "reshaped.weight"]
    assert not found.same_bytes
    assert compare_weights(tmp_path / "then", tmp_path / "then").same_bytes
    assert [group_of(name) for name in ("lm_head.weight", "model.norm.weight", "weight")] == [
        "lm_head",
        "model.norm",
        "weight",
    ]


def test_many_differing_steps_are_thinned_out_and_counted_all() -> None:
    recorded = {step: 1.0 for step in range(1, 2001)}
    found = compare_losses(recorded, {step: 1.0 + step / 1000 for step in range(2, 2002)})
    assert (found.compared, found.missing, found.differing, found.first_step) == (1999, 2, 1999, 2)
    assert found.largest == pytest.approx(2.0)
    assert 0 < len(found.steps) <= MOST_STEPS
