"""GRPO and RLOO have the loss and gradient of TRL 1.16, as `bench/training/trl_policy_losses.py` recorded them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
import torch

from registry.contracts.graders.grader_kinds import parse_grader
from registry.contracts.methods.reinforcement_spec import ReinforcementSpec
from tests.registry.contracts.graders.test_grader_kinds import CHECK
from trainer.data.encoded_row import IGNORED, EncodedRow
from trainer.data.packing import RowCollator
from trainer.recipes.reinforcement import OBJECTIVES
from trainer.training.sampling.rollouts import Output, collate_outputs, encode_output

TRL: Final[Mapping[str, Any]] = json.loads((Path(__file__).parent / "trl_policy_losses.json").read_text())
LENGTHS: Final[Sequence[int]] = TRL["lengths"]
LONGEST: Final = max(LENGTHS)
MASK: Final = torch.tensor([[at < length for at in range(LONGEST)] for length in LENGTHS])


def recorded(name: str) -> torch.Tensor:
    return torch.tensor(TRL[name], dtype=torch.float64)


def per_output(name: str) -> list[torch.Tensor]:
    return [row[:length] for row, length in zip(recorded(name), LENGTHS, strict=True)]


def spec_of(name: str) -> ReinforcementSpec:
    algorithm = {"algorithm": "rloo", "beta": 0.05} if name == "rloo" else {"loss_type": name, "beta": 0.04}
    given: dict[str, Any] = {
        **{"base": "tiny", "base_digest": "0", "adapter": "a", "training_file": "f", "seed": 1, "n_epochs": 1},
        **{"batch_size": 2, "learning_rate": 1.0, "group_size": 4, "max_completion_tokens": LONGEST},
        **{"iterations": 2, "grader": parse_grader(CHECK)},
        **algorithm,
    }
    return ReinforcementSpec(**given)


def objective_of(spec: ReinforcementSpec, logps: torch.Tensor) -> Any:
    """The objective of *spec*, with log-probabilities in place of the models that would compute them."""
    kind: Any = OBJECTIVES[spec.algorithm]

    class Given(kind):  # type: ignore[misc]
        def policy_logps(self, outputs: Sequence[Output]) -> list[torch.Tensor]:
            return per_output("old")

        def reference_logps(self, outputs: Sequence[Output]) -> list[torch.Tensor]:
            return per_output("reference")

        def logps(self, model: Any, batch: Any) -> tuple[torch.Tensor, None]:
            return torch.where(MASK, logps, 0), None

    return Given(None, spec, None)


@pytest.mark.parametrize("name", TRL["cases"])
def test_outputs_have_the_loss_and_gradient_that_trl_has(name: str) -> None:
    spec = spec_of(name)
    prompt = EncodedRow(line=1, input_ids=(9,), labels=(IGNORED,))
    outputs = [
        Output(row=at // 4, encoded=encode_output(prompt, [1] * length), tokens={}) for at, length in enumerate(LENGTHS)
    ]
    logps = recorded("logps").requires_grad_()
    objective = objective_of(spec, logps)
    judged = objective.judged(outputs, recorded("rewards"))
    batch = collate_outputs(RowCollator(packing=None), judged)
    loss = objective.pass_loss(None, judged, batch) / objective.count(judged)
    (gradient,) = torch.autograd.grad(loss, logps)
    case = TRL["cases"][name]
    assert float(loss.detach()) == pytest.approx(case["loss"], rel=1e-12)
    assert torch.allclose(gradient, torch.tensor(case["gradient"], dtype=torch.float64), rtol=1e-10, atol=1e-14)
