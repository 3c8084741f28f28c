"""A merge job: from a revision to a checkpoint that answers as base and adapter do."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from registry.contracts.merge_spec import MergeSpec
from registry.database import Registry
from registry.jobs.job import Job
from registry.jobs.job_state import JobState
from registry.publishing.publications import Upload, queue_publication
from registry.publishing.reproductions import queue_reproduction
from registry.types import Revision
from tests.engines.random_adapter import write_adapter
from tests.trainer.attempts import messages
from tests.trainer.forks.forked_children import ForkedChildren
from tests.trainer.test_reproduce import report_of
from trainer.errors import JobFailed
from trainer.settings import TrainerSettings
from trainer.training.merging.merged_folder import merge_folder

pytestmark = pytest.mark.trains


def published(registry: Registry, settings: TrainerSettings, forks: ForkedChildren, adapter: Path) -> Revision:
    """The revision of an adapter that was trained elsewhere, with its fingerprint."""
    queue_publication(registry, Upload(folder=adapter), adapter="support", base="tiny", owner="ann")
    forks.work(registry, settings)
    return registry.adapters.revision("support", 1)


def merge(registry: Registry, revision: Revision) -> Job:
    spec = MergeSpec(
        base=revision.base,
        base_digest=revision.base_digest,
        adapter="support",
        revision=revision.served_name,
        artifact=revision.artifact,
    )
    return registry.jobs.create(spec, "ann")


def test_a_revision_becomes_a_checkpoint_that_answers_as_base_and_adapter_and_is_made_again_byte_for_byte(
    registry: Registry, settings: TrainerSettings, forks: ForkedChildren, home: Path, tiny_base: Path
) -> None:
    adapter = write_adapter(home / "brought", tiny_base, seed=1, rank=4, strength=0.3)
    revision = published(registry, settings, forks, adapter)
    job = merge(registry, revision)
    forks.work(registry, settings)

    ended, made = registry.jobs.get(job.id), registry.bases.get("support-1")
    assert (ended.state, ended.error, ended.fine_tuned_model) == (JobState.SUCCEEDED, None, made.name)
    assert (made.parent, made.job_id, made.owner) == ("tiny", job.id, "ann")
    assert (made.provenance["source"], made.provenance["base"]["name"]) == ("merge", "tiny")
    assert made.provenance["adapter"] == {"name": "support@1", "artifact": revision.artifact}
    compared = made.provenance["compared"]
    assert compared["tokens"] == compared["same_best_tokens"] > 0
    assert compared["logprob_rms"] <= compared["tolerance"]
    assert "Merged support@1 into tiny: support-1" in messages(registry, job.id)

    pairs = load_file(adapter / "adapter_model.safetensors")
    written, base = (load_file(Path(folder) / "model.safetensors") for folder in (made.path, tiny_base))
    name = "model.layers.0.self_attn.q_proj"
    down, up = (pairs[f"base_model.model.{name}.lora_{side}.weight"] for side in "AB")
    torch.testing.assert_close(written[f"{name}.weight"], base[f"{name}.weight"] + 8 * up @ down, atol=1e-4, rtol=1e-4)

    again = queue_reproduction(registry, "support-1", "ann")
    forks.work(registry, settings)
    assert report_of(registry, again.id).same_bytes


def bfloat16_base(tiny_base: Path, folder: Path) -> Path:
    shutil.copytree(tiny_base, folder)
    weights = {name: one.bfloat16() for name, one in load_file(tiny_base / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_merged_weights_have_the_types_of_the_base_and_the_record_says_how_much_rounding_costs(
    home: Path, tiny_base: Path
) -> None:
    base = bfloat16_base(tiny_base, home / "base")
    adapter = write_adapter(home / "adapter", tiny_base, seed=1, rank=4, strength=0.3)
    compared = merge_folder(base, adapter, home / "merged")
    types = {one.dtype for one in load_file(home / "merged" / "model.safetensors").values()}
    assert types == {torch.bfloat16}
    assert compared["stored_as"] == "bfloat16"
    assert 0 < compared["logprob_rms"] <= compared["tolerance"]


def test_an_adapter_with_values_that_are_not_finite_is_not_merged(home: Path, tiny_base: Path) -> None:
    adapter = write_adapter(home / "adapter", tiny_base, seed=1, rank=4, strength=float("nan"))
    with pytest.raises(JobFailed, match="not finite"):
        merge_folder(tiny_base, adapter, home / "merged")


def test_an_adapter_is_not_merged_into_quantized_weights(home: Path, tiny_base: Path) -> None:
    base = bfloat16_base(tiny_base, home / "base")
    weights = load_file(base / "model.safetensors")
    weights["model.layers.0.mlp.up_proj.weight"] = torch.zeros(64, 32, dtype=torch.int8)
    save_file(weights, base / "model.safetensors", {"format": "pt"})
    adapter = write_adapter(home / "adapter", tiny_base, seed=1, rank=4)
    with pytest.raises(JobFailed, match=r"up_proj\.weight is I8: .* not quantized"):
        merge_folder(base, adapter, home / "merged")
