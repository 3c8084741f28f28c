"""A step of a method that learns preferences does not depend on the passes that it takes, nor on the layout of rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from registry.contracts.job_kinds import FINE_TUNING_METHODS
from tests.trainer.recipes.preference_runs import METHODS, write_rows
from trainer.data.dataset import ChatEncoder
from trainer.recipes.dpo import DpoObjective
from trainer.recipes.kto import KtoObjective, mismatched_row, remark_on_balance
from trainer.recipes.orpo import OrpoObjective
from trainer.recipes.reward import RewardObjective
from trainer.recipes.simpo import SimpoObjective
from trainer.training.objective import Objective
from trainer.training.preferences.losses import KtoWeights

ROWS = 8
Gradients = Mapping[str, torch.Tensor]


def objective_of(method: str, base: Path, **changes: Any) -> Objective[Any]:
    fields: dict[str, Any] = {"base": "b", "base_digest": "d", "adapter": "a", "training_file": "f"}
    fields |= {"n_epochs": 1, "batch_size": ROWS, "learning_rate": 1e-3, "seed": 1}
    spec: Any = FINE_TUNING_METHODS[method](**fields, **changes)
    encoder = ChatEncoder(base)
    made: dict[str, Any] = {
        "dpo": lambda: DpoObjective(encoder, spec),
        "kto": lambda: KtoObjective(encoder, spec, lambda _: None),
        "orpo": lambda: OrpoObjective(encoder, spec),
        "simpo": lambda: SimpoObjective(encoder, spec),
        "reward": lambda: RewardObjective(encoder, spec),
    }
    objective: Objective[Any] = made[method]()
    return objective


def model_of(base: Path) -> PeftModel:
    """An adapter in the middle of its training: it moves the logprobs."""
    torch.manual_seed(3)
    config = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    return get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float64), config)


def step(method: str, base: Path, file: Path, rows_at_once: int) -> tuple[float, Gradients]:
    """Return loss and gradients of a step over all rows, *rows_at_once* in each pass."""
    objective, model = objective_of(method, base), model_of(base)
    rows = objective.read_rows(file, "training_file")
    objective.attach(model)
    objective.prepare(model, rows)
    if method == "reward":
        torch.nn.init.constant_(model.get_base_model().get_output_embeddings().weight, 0.1)
    batches = [*objective.batches(rows, rows_at_once)]
    objective.begin_step(model, batches)
    items = objective.count_items(batches)
    losses = [objective.loss(model, batch, items) for batch in batches]
    torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
    gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    assert any(gradient.abs().max() > 1e-6 for gradient in gradients.values())
    return sum(float(loss.detach()) for loss in losses), gradients


@pytest.mark.long
@pytest.mark.parametrize("method", METHODS)
def test_a_step_does_not_depend_on_its_passes(tiny_base: Path, tmp_path: Path, method: str) -> None:
    file = write_rows(method, tmp_path / "rows.jsonl", ROWS)
    whole, gradients = step(method, tiny_base, file, ROWS)
    for rows_at_once in (1, 3):
        loss, others = step(method, tiny_base, file, rows_at_once)
        assert loss == pytest.approx(whole, rel=1e-6)
        for name, gradient in gradients.items():
            torch.testing.assert_close(others[name], gradient, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_before_the_first_step_the_model_is_its_own_reference(tiny_base: Path, tmp_path: Path, method: str) -> None:
    objective, model = objective_of(method, tiny_base), model_of(tiny_base)
    rows = objective.read_rows(write_rows(method, tmp_path / "rows.jsonl", ROWS), "training_file")
    objective.prepare(model, rows)
    with model.disable_adapter(), torch.no_grad():
        measured = objective.measure(model, rows, 3)
    assert measured["reward_margin"] == 0.0
    assert measured["loss"] == pytest.approx(0.693147 if method == "dpo" else 0.5)


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_with_all_weights_trained_the_reference_is_computed_before(
    tiny_base: Path, tmp_path: Path, method: str
) -> None:
    objective = objective_of(method, tiny_base)
    weights = objective._spec.weights.model_copy(update={"kind": "full"})  # type: ignore[attr-defined]
    objective._spec = objective._spec.model_copy(update={"weights": weights})  # type: ignore[attr-defined]
    model = AutoModelForCausalLM.from_pretrained(tiny_base)
    rows = objective.read_rows(write_rows(method, tmp_path / "rows.jsonl", ROWS), "training_file")
    objective.prepare(model, rows)
    with torch.no_grad():
        assert objective.measure(model, rows, 3)["reward_margin"] == pytest.approx(0.0, abs=1e-5)
        model.lm_head.weight[:] = model.lm_head.weight * 1.5
        assert abs(objective.measure(model, rows, 3)["reward_margin"]) > 1e-3


def test_a_mismatched_row_has_the_prompt_of_one_row_and_the_answer_of_another(tiny_base: Path, tmp_path: Path) -> None:
    file = write_rows("kto", tmp_path / "rows.jsonl", ROWS)
    rows = objective_of("kto", tiny_base).read_rows(file, "training_file")
    answers = {row.number: tuple(label for label in row.answer.labels if label >= 0) for row in rows}
    for row in rows:
        given = next(at for at, label in enumerate(row.answer.labels) if label >= 0)
        assert row.mismatched.input_ids[:given] == row.answer.input_ids[:given]
        assert row.mismatched.input_ids[given:] in {answers[other.number] for other in rows if other is not row}
    cut = mismatched_row(rows[0].answer, rows[1].answer, given + 2)
    assert len(cut.input_ids) <= max(given + 2, 1 + given)


@pytest.mark.parametrize(
    ("good", "bad", "weight", "expected"),
    [(8, 8, 1.0, None), (12, 9, 1.0, None), (30, 10, 1.0, "from 2.25 to 3.00"), (5, 0, 1.0, "All 5 answers are good")],
)
def test_an_imbalance_is_remarked_with_the_weights_that_mend_it(
    good: int, bad: int, weight: float, expected: str | None
) -> None:
    remark = remark_on_balance([True] * good + [False] * bad, KtoWeights(desirable=1.0, undesirable=weight))
    assert (remark is None) == (expected is None)
    assert expected is None or expected in str(remark)
