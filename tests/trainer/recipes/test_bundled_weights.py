"""On the bundled model: quantized and full training learn in a few steps, and our engine serves what they made."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from engines.catalog import adapter_fields
from engines.proving.fingerprint import prove, tolerance_of
from engines.settings import EngineSettings
from registry.artifacts import folder_digest
from registry.contracts.hyperparameters import Hyperparameters, MethodOptions
from registry.contracts.methods.supervised_spec import SupervisedSpec
from registry.disk import sha256_of
from registry.publishing.checkpoint_forms.whole_models import check_checkpoint
from tests.contract.engine_host import BASE, EngineHost
from tests.trainer.recipes.test_bundled_model import train
from trainer.order import ChildOrder

CHATS = Path(__file__).parents[3] / "examples" / "support_validation.jsonl"
STEPS = 5
QUESTION = json.loads(CHATS.read_text().splitlines()[0])["messages"][0]["content"]

pytestmark = pytest.mark.engine


def order_of(model_folder: Path, folder: Path, **asked: Any) -> ChildOrder[SupervisedSpec]:
    """An order to train on the first chats, the same ones in every step."""
    chats = folder / "chats.jsonl"
    chats.write_text("".join(CHATS.read_text().splitlines(keepends=True)[:4]))
    options = MethodOptions(hyperparameters=Hyperparameters.model_validate({"batch_size": 4} | asked))
    fields = SupervisedSpec.resolve(options, rows=4) | {"n_epochs": STEPS}
    return ChildOrder[SupervisedSpec](
        spec=SupervisedSpec(
            base=BASE,
            base_digest=folder_digest(model_folder),
            adapter="support",
            training_file="file-1",
            seed=7,
            **fields,
        ),
        base_path=model_folder,
        inputs={"training_file": chats.rename(folder / sha256_of(chats))},
        job_folder=folder,
        attempt_folder=folder / "attempt-1",
        threads=1,
        nice=0,
        keep_checkpoints=1,
        worker_pid=os.getpid(),
    )


@contextmanager
def serving(folder: Path, log: Path) -> Iterator[EngineHost]:
    settings = {"kind": "transformers", "base_path": folder, "base_name": BASE, "log_path": log, "max_context": 256}
    host = EngineHost(EngineSettings.model_validate(settings), {})
    try:
        yield host
    finally:
        host.close()


def test_full_weights_learn_and_our_engine_answers_with_them(model_folder: Path, tmp_path: Path) -> None:
    order = order_of(model_folder, tmp_path, weights="full", optimizer="adafactor", learning_rate_multiplier=2)
    losses = [step.train_loss for step in train(order)]
    assert losses[-1] < losses[0] - 1.0
    check_checkpoint(order.final_folder, model_folder)
    with serving(order.final_folder, tmp_path / "engine.log") as host:
        answer = host.say(question=QUESTION, max_tokens=5)
    assert answer.startswith("K"), "all chats of the file begin with Kestrel, no answer of the base model does"


def test_an_adapter_of_quantized_weights_is_proven_on_the_unquantized_base(model_folder: Path, tmp_path: Path) -> None:
    order = order_of(model_folder, tmp_path, weights="qlora", lora_rank=8)
    losses = [step.train_loss for step in train(order)]
    assert losses[-1] < losses[0] - 1.0
    with serving(model_folder, tmp_path / "engine.log") as host:
        for name, folder in (("support@1", order.final_folder), ("support@1f2e-step-4", order.served_folder(4))):
            host.load(name, folder)
            fields = adapter_fields(host.kind, name)
            tolerance = tolerance_of(host.kind, "fp32")
            proof = asyncio.run(prove(host.engine.base_url, fields, folder, tolerance))
            assert proof.passed, proof.message
