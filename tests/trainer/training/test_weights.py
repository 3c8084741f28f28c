"""Every way to train weights, from a queued job through a worker to what its result became."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from engines.settings import EngineSettings
from registry.contracts.fingerprint import check_fingerprint
from registry.contracts.hyperparameters import Hyperparameters
from registry.database import Registry
from registry.jobs.job import Job
from registry.jobs.job_state import JobState
from registry.publishing.checks import check_adapter
from registry.types import Base
from tests.contract.engine_host import EngineHost
from tests.trainer.attempts import MakeJob, loss_curve, messages
from tests.trainer.forks.forked_children import ForkedChildren
from trainer.settings import TrainerSettings

pytestmark = pytest.mark.trains

SMALL = {"lora_rank": 4, "lora_alpha": 8}
ADAPTERS: Sequence[tuple[dict[str, Any], int]] = (
    ({"lora_variant": "rslora", **SMALL}, 8),
    ({"lora_variant": "pissa", "lora_rank": 8}, 16),
    ({"lora_variant": "olora", "lora_rank": 8}, 16),
    ({"lora_plus_ratio": 16.0, "gradient_checkpointing": True, **SMALL}, 8),
    ({"weights": "qlora", "micro_batch_size": 2, **SMALL}, 8),
)
CHECKPOINTS: Sequence[dict[str, Any]] = (
    {"lora_variant": "dora", **SMALL},
    {"weights": "qlora", "merge": True, **SMALL},
    {"weights": "full", "gradient_checkpointing": True},
    {"weights": "full", "optimizer": "adafactor"},
    {"weights": "full", "optimizer": "galore", "optimizer_rank": 8, "optimizer_interval": 2},
    {"weights": "full", "optimizer": "apollo", "optimizer_rank": 8, "optimizer_interval": 2},
)


def fields_of(asked: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a spec that *asked* resolves to."""
    hyperparameters = Hyperparameters.model_validate(asked)
    rate = 1e-3 if asked.get("weights") == "full" else 1e-2
    return {"lora": hyperparameters.lora(), "weights": hyperparameters.trained_weights(), "learning_rate": rate}


def done(registry: Registry, settings: TrainerSettings, forks: ForkedChildren, job: Job) -> Job:
    forks.work(registry, settings)
    ended = registry.jobs.get(job.id)
    assert ended.state is JobState.SUCCEEDED, ended.error
    losses = loss_curve(registry, job.id)
    assert losses[max(losses)] < losses[1] - 0.05
    return ended


def logits_of(folder: Path) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=torch.arange(3, 30)[None]).logits
    return found


@pytest.mark.parametrize(("asked", "rank"), ADAPTERS, ids=[json.dumps(asked) for asked, _ in ADAPTERS])
def test_an_adapter_is_plain_lora_on_the_base_as_it_is_stored(
    registry: Registry,
    settings: TrainerSettings,
    forks: ForkedChildren,
    make_job: MakeJob,
    asked: dict[str, Any],
    rank: int,
) -> None:
    job = done(registry, settings, forks, make_job(**fields_of(asked)))
    assert job.revision == 1
    revision = registry.adapters.revision("support", 1)
    folder, base = registry.artifacts.folder(revision.artifact), registry.bases.get("tiny")
    assert revision.rank == check_adapter(folder, Path(base.path)).rank == rank
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["use_rslora"], config["init_lora_weights"]) == (False, True)
    assert check_fingerprint(folder, base).shows_effect()


@pytest.mark.parametrize("asked", CHECKPOINTS, ids=json.dumps)
def test_a_checkpoint_is_a_whole_model_that_answers_differently_from_its_base(
    registry: Registry, settings: TrainerSettings, forks: ForkedChildren, make_job: MakeJob, asked: dict[str, Any]
) -> None:
    job = done(registry, settings, forks, make_job(**fields_of(asked)))
    assert (job.fine_tuned_model, job.revision) == ("support-1", None)
    made, base = registry.bases.get("support-1"), registry.bases.get("tiny")
    assert (made.parent, made.job_id, made.owner) == ("tiny", job.id, "ann")
    assert made.provenance["base"] == {"name": "tiny", "digest": base.digest}
    assert made.provenance["hyperparameters"]["weights"]["kind"] == asked.get("weights", "lora")
    assert sorted(path.name for path in Path(made.path).iterdir()) == sorted(
        path.name for path in Path(base.path).iterdir()
    )
    assert not torch.allclose(logits_of(Path(made.path)), logits_of(Path(base.path)), atol=1e-3)
    early = registry.bases.get("support-1-step-3")
    assert (early.step, early.alias) == (3, f"ft:tiny:lorry:support:{job.id[-8:]}:ckpt-step-3")
    assert [each.global_step for each in registry.jobs.checkpoints(job.id)] == [6, 3]
    assert "New fine-tuned model created: support-1" in messages(registry, job.id)
    assert not list(settings.work.glob("*/*/final"))


def test_our_engine_serves_a_checkpoint_by_its_name(
    registry: Registry, settings: TrainerSettings, forks: ForkedChildren, make_job: MakeJob, home: Path
) -> None:
    done(registry, settings, forks, make_job(**fields_of({"weights": "full"})))
    answers = []
    for base in (registry.bases.get("tiny"), registry.bases.get("support-1")):
        fields = {"kind": "transformers", "base_path": base.path, "base_name": base.name, "log_path": home / "log"}
        host = EngineHost(EngineSettings.model_validate(fields | {"max_context": 256}), {})
        chat = host.chat(model=base.name, logprobs=True, max_tokens=4)
        host.close()
        answers.append([token["logprob"] for token in chat["choices"][0]["logprobs"]["content"]])
    assert answers[0] != answers[1]


def test_a_job_starts_from_a_checkpoint_and_its_adapter_stands_on_it(
    registry: Registry, settings: TrainerSettings, forks: ForkedChildren, make_job: MakeJob
) -> None:
    full = fields_of({"weights": "full"})
    done(registry, settings, forks, make_job(**full))
    first = registry.bases.get("support-1")
    on_first = {"base": first.name, "base_digest": first.digest}
    done(registry, settings, forks, make_job(adapter="tone", **on_first))
    assert registry.adapters.get("tone").base == "support-1"
    done(registry, settings, forks, make_job(**full, **on_first))
    assert registry.bases.get("support-2").parent == "support-1"


def test_merging_gives_the_base_with_the_adapter(
    registry: Registry, settings: TrainerSettings, forks: ForkedChildren, make_job: MakeJob
) -> None:
    done(registry, settings, forks, make_job(**fields_of(SMALL)))
    done(registry, settings, forks, make_job(**fields_of({"merge": True, **SMALL})))
    revision = registry.adapters.revision("support", 1)
    folder = registry.artifacts.folder(revision.artifact)
    pairs = load_file(folder / "adapter_model.safetensors")
    config = json.loads((folder / "adapter_config.json").read_text())
    made, base = (load_file(Path(_path(registry, name)) / "model.safetensors") for name in ("support-1", "tiny"))
    name = "model.layers.0.self_attn.q_proj"
    down, up = (pairs[f"base_model.model.{name}.lora_{side}.weight"] for side in "AB")
    change = config["lora_alpha"] / config["r"] * up @ down
    torch.testing.assert_close(made[f"{name}.weight"], base[f"{name}.weight"] + change, atol=1e-5, rtol=1e-4)
    assert torch.equal(made["model.norm.weight"], base["model.norm.weight"])


def _path(registry: Registry, name: str) -> str:
    base: Base = registry.bases.get(name)
    return base.path
