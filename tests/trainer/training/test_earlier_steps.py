"""Earlier steps of a run are written as what its result is: a proven adapter, a whole model, a reward model."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, PreTrainedModel

from engines.catalog import adapter_fields
from engines.proving.fingerprint import prove, tolerance_of
from engines.settings import EngineSettings
from registry.contracts.fine_tune_spec import FineTuneSpec
from registry.contracts.fingerprint import check_fingerprint
from registry.contracts.hyperparameters import Hyperparameters
from registry.contracts.job_spec import LoraSpec
from registry.contracts.methods.reward_spec import RewardSpec
from registry.contracts.methods.supervised_spec import SupervisedSpec
from registry.publishing.adapter_files import WEIGHTS
from registry.publishing.checkpoint_forms.whole_models import check_checkpoint
from registry.publishing.checks import check_adapter
from registry.publishing.score_head import SCORE_HEAD, check_reward_model
from registry.types import Base
from tests.contract.engine_host import BASE, EngineHost
from tests.trainer.recipes.preference_runs import write_rows
from tests.trainer.tiny_base import write_chats
from trainer.order import ChildOrder
from trainer.progress import Noted, Progress, RecipeFinished, Stepped, StepWritten
from trainer.recipes import load_recipe

pytestmark = [pytest.mark.trains, pytest.mark.filterwarnings("ignore:Could not find a config file")]

Trained = tuple[ChildOrder[FineTuneSpec], RecipeFinished, list[Progress]]
ADAPTERS: dict[str, dict[str, Any]] = {
    "qlora": {"weights": "qlora", "lora_rank": 4},
    "pissa": {"lora_variant": "pissa", "lora_rank": 8},
    "olora": {"lora_variant": "olora", "lora_rank": 8},
}


@pytest.fixture
def base(tiny_base: Path, tiny_digest: str) -> Base:
    return Base(name="tiny", path=str(tiny_base), digest=tiny_digest, licence="", created_at=1.0)


@pytest.fixture
def train(base: Base, tmp_path: Path) -> Callable[..., Trained]:
    def run(kind: type[FineTuneSpec] = SupervisedSpec, **fields: Any) -> Trained:
        file = write_rows("reward", tmp_path / "rows.jsonl") if kind is RewardSpec else write_chats(tmp_path / "rows")
        common = {"base": "tiny", "base_digest": base.digest, "adapter": "support", "training_file": "file-1"}
        asked = {"n_epochs": 2, "batch_size": 4, "learning_rate": 0.01, "checkpoint_steps": 50, "seed": 7} | fields
        order = ChildOrder[FineTuneSpec](
            spec=kind.model_validate(common | asked),
            base_path=Path(base.path),
            inputs={"training_file": file, "validation_file": file},
            job_folder=tmp_path,
            attempt_folder=tmp_path / "attempt-1",
            threads=1,
            nice=0,
            keep_checkpoints=1,
            worker_pid=os.getpid(),
        )
        shutil.rmtree(order.attempt_folder, ignore_errors=True)
        order.attempt_folder.mkdir()
        told: list[Progress] = []
        outcome = load_recipe(order.spec)(order, told.append, lambda: False)
        assert isinstance(outcome, RecipeFinished)
        assert not [each.message for each in told if isinstance(each, Noted) and "is not served" in each.message]
        return order, outcome, told

    return run


def weights_of(asked: dict[str, Any]) -> dict[str, Any]:
    given = Hyperparameters.model_validate(asked)
    return {"lora": given.lora(), "weights": given.trained_weights()}


def logits_of(model: PreTrainedModel | PeftModel) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=torch.arange(3, 30)[None]).logits
    return found


@pytest.mark.parametrize("variant", ADAPTERS)
def test_a_step_of_every_kind_of_adapter_is_plain_and_proven(
    train: Callable[..., Trained], base: Base, variant: str
) -> None:
    order, outcome, told = train(**weights_of(ADAPTERS[variant]))
    assert (outcome.result_step, outcome.served_steps) == (6, (3,))
    folder = order.served_folder(3)
    assert check_adapter(folder, Path(base.path)).rank == check_adapter(order.final_folder, Path(base.path)).rank
    assert check_fingerprint(folder, base).shows_effect()
    # Its base model differs from the stored one while it trains, so all is written at the end.
    assert not [each for each in told if isinstance(each, StepWritten)]
    early, late = (load_file(each / "adapter_model.safetensors") for each in (folder, order.final_folder))
    assert all(not torch.equal(early[name], late[name]) for name in early)


def test_our_engine_proves_a_step_of_every_kind_of_adapter(
    train: Callable[..., Trained], base: Base, tmp_path: Path
) -> None:
    for variant, asked in ADAPTERS.items():
        order, _, _ = train(**weights_of(asked))
        shutil.copytree(order.served_folder(3), tmp_path / variant)
    settings = {"kind": "transformers", "base_path": base.path, "base_name": BASE, "log_path": tmp_path / "log"}
    host = EngineHost(EngineSettings.model_validate(settings | {"max_context": 256}), {})
    try:
        for variant in ADAPTERS:
            name = f"{variant}@1f2e3d4c-step-3"
            host.load(name, tmp_path / variant)
            fields, tolerance = adapter_fields(host.kind, name), tolerance_of(host.kind, "fp32")
            proof = asyncio.run(prove(host.engine.base_url, fields, tmp_path / variant, tolerance))
            assert proof.passed, f"{variant}: {proof.message}"
    finally:
        host.close()


@pytest.mark.parametrize("rank", [4, 8], ids=["padded", "as it is"])
def test_a_step_is_written_while_the_run_goes_on_as_if_it_were_not(
    train: Callable[..., Trained], base: Base, rank: int
) -> None:
    spec = {"lora": LoraSpec(rank=rank, alpha=8, dropout=0.2), "n_epochs": 3}
    order, outcome, told = train(**spec)
    assert (outcome.result_step, outcome.served_steps) == (9, (3, 6))
    order_of = [each.step for each in told if isinstance(each, StepWritten | Stepped)]
    assert order_of == [1, 2, 3, 3, 4, 5, 6, 6, 7, 8, 9]
    assert check_fingerprint(order.served_folder(3), base).shows_effect()
    weights = (order.final_folder / WEIGHTS).read_bytes()
    losses = [each.train_loss for each in told if isinstance(each, Stepped)]
    kept = load_file(order.attempt_folder / "kept" / "step-3" / WEIGHTS)
    shown = load_file(order.served_folder(3) / WEIGHTS)
    assert all(torch.equal(shown[name][:rank], kept[name]) for name in kept if "lora_A" in name)
    order, _, told = train(**spec, serve_checkpoints="none")
    assert losses == [each.train_loss for each in told if isinstance(each, Stepped)]
    assert weights == (order.final_folder / WEIGHTS).read_bytes()


def test_a_step_of_full_weights_has_the_weights_of_that_step(train: Callable[..., Trained], base: Base) -> None:
    order, outcome, _ = train(**weights_of({"weights": "full"}), learning_rate=1e-3)
    assert (outcome.result_step, outcome.served_steps) == (6, (3,))
    check_checkpoint(order.served_folder(3), Path(base.path))
    written = load_file(order.served_folder(3) / "model.safetensors")
    trained = load_file(order.attempt_folder / "kept" / "step-3" / "model.safetensors")
    result = load_file(order.final_folder / "model.safetensors")
    assert all(torch.equal(written[name], trained[name]) for name in trained)
    assert any(not torch.equal(written[name], result[name]) for name in written)


def test_a_step_of_a_merged_job_computes_what_the_adapter_of_that_step_does(
    train: Callable[..., Trained], base: Base
) -> None:
    order, outcome, _ = train(**weights_of({"lora_variant": "dora", "lora_rank": 4}))
    assert (outcome.result_step, outcome.served_steps) == (6, (3,))
    merged = [
        logits_of(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32))
        for folder in (order.served_folder(3), order.final_folder)
    ]
    own = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
    adapted = logits_of(PeftModel.from_pretrained(own, order.attempt_folder / "kept" / "step-3"))
    assert torch.allclose(merged[0], adapted, atol=1e-5)
    assert not torch.allclose(merged[0], merged[1], atol=1e-3)


def test_a_step_of_a_reward_model_has_the_score_head_of_that_step(train: Callable[..., Trained], base: Base) -> None:
    order, outcome, _ = train(RewardSpec, lora=LoraSpec(rank=4, alpha=8), keep="best", validation_file="file-1")
    assert outcome.result_step is not None
    kept = {step: load_file(order.attempt_folder / "kept" / f"step-{step}" / SCORE_HEAD) for step in (3, 6)}
    assert not torch.equal(kept[3]["score.weight"], kept[6]["score.weight"])
    folders = {step: order.served_folder(step) for step in outcome.served_steps}
    for step, folder in (folders | {outcome.result_step: order.final_folder}).items():
        check_reward_model(folder, base)
        assert torch.equal(load_file(folder / SCORE_HEAD)["score.weight"], kept[step]["score.weight"])
