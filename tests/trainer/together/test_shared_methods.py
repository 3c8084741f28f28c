"""Every method gives, by two processes, the losses, the figures and the result that it gives by one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import torch

from registry.contracts.weights_spec import WeightsSpec
from tests.trainer.together.shared_runs import Run, make_run, shared, train_together
from trainer.progress import RecipeStopped

pytestmark = [pytest.mark.trains, pytest.mark.filterwarnings("ignore:Could not find a config file")]

VALIDATED: Final[dict[str, Any]] = {"validation_file": "file-1"}
KEPT: Final[dict[str, Any]] = VALIDATED | {"contrary": True, "keep": "best", "checkpoint_steps": 2, "n_epochs": 3}
CASES: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "dpo": ("dpo", VALIDATED),
    "dpo-full": ("dpo", {"weights": WeightsSpec(kind="full"), "learning_rate": 1e-3}),
    "orpo": ("orpo", {}),
    "simpo": ("simpo", {}),
    "kto": ("kto", VALIDATED),
    "reward": ("reward", VALIDATED),
    "grpo": ("reinforcement", VALIDATED | {"iterations": 2}),
    "rloo": ("reinforcement", {"algorithm": "rloo"}),
    "ppo": ("ppo", VALIDATED),
    "ppo-repeated": ("ppo", {"iterations": 2, "n_epochs": 1}),
    "kept": ("supervised", KEPT | {"serve_checkpoints": "steps"}),
    "kept-full": ("supervised", KEPT | {"weights": WeightsSpec(kind="full"), "learning_rate": 3e-2}),
    "kept-reward": ("reward", KEPT),
}
STOPPED: Final = [
    ("dpo", "ddp", 2),
    ("kto", "fsdp2", 4),
    ("reward", "fsdp2", 4),
    ("grpo", "fsdp2", 3),
    ("ppo", "ddp", 2),
]
"""Runs that are stopped after a step: those of `grpo` in the middle of the steps that use the same outputs."""
SPLIT: Final = {
    "fsdp2": ("dpo", "kto", "reward", "grpo", "ppo", "kept-full", "kept-reward"),
    "deepspeed_zero2": ("dpo",),
    "deepspeed_zero3": ("kto", "grpo", "ppo"),
}
"""Runs that split weights, or gradients and states: of methods that share their code, one."""
WAYS: Final = [*((name, "ddp") for name in CASES), *((name, way) for way, names in SPLIT.items() for name in names)]


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path, tiny_digest: str) -> Mapping[Any, Run]:
    """All runs by two processes."""
    folder = tmp_path_factory.mktemp("together")

    def run_of(name: str, way: str, mark: str = "") -> Run:
        method, fields = CASES[name]
        return make_run(folder / f"{name}-{way}{mark}", tiny_base, tiny_digest, method, parallel=shared(way), **fields)

    runs: dict[Any, Run] = {(name, way): run_of(name, way) for name, way in WAYS}
    for name, way, step in STOPPED:
        runs[name, way, "stopped"], runs[name, way, "continued"] = run_of(name, way, "-stopped").interrupted(step)
    train_together(runs.values())
    return runs


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path, tiny_digest: str) -> Mapping[str, Run]:
    """The same runs by one process."""
    folder, threads = tmp_path_factory.mktemp("alone"), torch.get_num_threads()
    runs = {
        name: make_run(folder / name, tiny_base, tiny_digest, method, **fields)
        for name, (method, fields) in CASES.items()
    }
    for run in runs.values():
        run.alone()
    torch.set_num_threads(threads)
    return runs


@pytest.mark.parametrize(("name", "way"), [(name, way) for name, way, _ in STOPPED])
def test_a_run_of_two_processes_that_was_stopped_ends_as_one_that_was_not(
    together: Mapping[Any, Run], name: str, way: str
) -> None:
    straight, stopped, going_on = together[name, way], together[name, way, "stopped"], together[name, way, "continued"]
    assert isinstance(stopped.reported[-1], RecipeStopped)
    assert [*stopped.losses, *going_on.losses] == straight.losses
    for key, tensor in straight.weights.items():
        assert torch.equal(going_on.weights[key], tensor), key


def steady(figures: Mapping[str, float]) -> Mapping[str, float]:
    """Leave out shares of right answers: before the first step both answers have the same reward, up to rounding."""
    return {name: value for name, value in figures.items() if not name.endswith("preference_accuracy")}


@pytest.mark.parametrize(("name", "way"), WAYS)
def test_two_processes_train_what_one_would(
    together: Mapping[Any, Run], alone: Mapping[str, Run], name: str, way: str
) -> None:
    one, two = alone[name], together[name, way]
    assert two.losses == pytest.approx(one.losses, rel=1e-4, abs=1e-6)
    assert len(set(one.losses)) > 1
    for mine, theirs in zip(one.figures, two.figures, strict=True):
        assert steady(theirs) == pytest.approx(steady(mine), rel=1e-3, abs=1e-4)
    assert two.notes == one.notes
    assert two.finished.trained_tokens == one.finished.trained_tokens
    assert two.finished.served_steps == one.finished.served_steps
    assert two.finished.result_step == one.finished.result_step
    assert CASES[name][1].get("keep") != "best" or one.finished.result_step == KEPT["checkpoint_steps"]
    assert name != "kept" or one.finished.served_steps
    assert steady(two.finished.metrics) == pytest.approx(steady(one.finished.metrics), rel=1e-3, abs=1e-4)
    assert two.weights.keys() == one.weights.keys()
    for key, tensor in one.weights.items():
        torch.testing.assert_close(two.weights[key], tensor, rtol=1e-2, atol=1e-3)
