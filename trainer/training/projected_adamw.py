"""AdamW whose moments are kept for projected gradients: GaLore and APOLLO, for full training in less memory.

GaLore: Zhao et al. 2024, arXiv 2403.03507, algorithm 2. APOLLO: Zhu et al. 2024, arXiv 2412.05270, algorithm 1. The
published libraries cannot be used: galore-torch keeps objects in its state, which a checkpoint does not bring back, and
is not maintained; apollo-torch is licensed for non-commercial use only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, overload

import torch
from torch import Tensor

GROWTH: Final = 1.01
"""APOLLO's gamma: how much the norm of a matrix's update may grow from step to step."""
TINY: Final = 1e-8


class ProjectedAdamW(torch.optim.Optimizer):
    """AdamW without weight decay; a group with a `projection` keeps the moments of projected gradients.

    Such a group has `rank`, `interval`, `scale` and `seed`, and its parameters are matrices. All of the state are
    tensors, so a continued run goes on bit for bit.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], lr: float, betas: tuple[float, float] = (0.9, 0.999)) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": 1e-8, "projection": None})

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for index, parameter in enumerate(group["params"]):
                if parameter.grad is not None:
                    update = self._update(parameter, group, index)
                    parameter.add_(update, alpha=-group["lr"])
        return loss

    def _update(self, parameter: Tensor, group: dict[str, Any], index: int) -> Tensor:
        """Return the direction of a parameter's step, before the learning rate."""
        state = self.state[parameter]
        gradient = parameter.grad
        assert gradient is not None  # noqa: S101 - the caller looked
        step = int(state.get("step", 0))
        state["step"] = torch.tensor(step + 1.0)
        if group["projection"] is None:
            return _normalised(gradient, state, group, step + 1)
        # Of the two sides the shorter one is projected: rows of a wide matrix, columns of a tall one.
        is_tall = gradient.shape[0] > gradient.shape[1]
        wide: Tensor = gradient.T if is_tall else gradient
        project: Project = PROJECTIONS[group["projection"]]
        update = project(wide, state, group, (step, index))
        return update.T if is_tall else update


def _normalised(gradient: Tensor, state: dict[str, Any], group: dict[str, Any], count: int) -> Tensor:
    """Return Adam's direction for *gradient*, the *count*-th one, and keep its moments in *state*."""
    first, second = group["betas"]
    if "exp_avg" not in state:
        state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
    mean: Tensor = state["exp_avg"]
    square: Tensor = state["exp_avg_sq"]
    mean.lerp_(gradient, 1 - first)
    square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
    deviation = (square / (1 - second**count)).sqrt_().add_(group["eps"])
    direction: Tensor = (mean / (1 - first**count)).div_(deviation)
    return direction


def _galore(gradient: Tensor, state: dict[str, Any], group: dict[str, Any], at: tuple[int, int]) -> Tensor:
    """Return Adam's direction in the space of the largest singular vectors, brought back to the gradient's shape."""
    step, _ = at
    if step % group["interval"] == 0:
        left = torch.linalg.svd(gradient.float(), full_matrices=False)[0]
        state["basis"] = left[:, : group["rank"]].to(gradient.dtype).contiguous()
    basis: Tensor = state["basis"]
    scale: float = group["scale"]
    update: Tensor = basis @ _normalised(basis.T @ gradient, state, group, step + 1) * scale
    return update


def _apollo(gradient: Tensor, state: dict[str, Any], group: dict[str, Any], at: tuple[int, int]) -> Tensor:
    """Return the gradient with each column scaled as Adam scales that of the randomly projected gradient."""
    step, index = at
    low = _random(gradient, group, step // group["interval"], index) @ gradient
    direction = _normalised(low, state, group, step + 1)
    scale: float = group["scale"]
    update: Tensor = gradient * (direction.norm(dim=0) / (low.norm(dim=0) + TINY)) * scale
    norm = update.norm()
    # The limiter of the paper's section 4: a norm that jumps early in training would spoil the weights.
    if "norm" in state and norm > GROWTH * state["norm"]:
        update *= GROWTH * state["norm"] / (norm + TINY)
        norm = GROWTH * state["norm"]
    state["norm"] = norm
    return update


Project = Callable[[Tensor, dict[str, Any], dict[str, Any], tuple[int, int]], Tensor]
PROJECTIONS: Final[dict[str, Project]] = {"galore": _galore, "apollo": _apollo}
"""`projection` of a group -> the direction of a step from gradient, state, group, and numbers of step and matrix."""


def _random(gradient: Tensor, group: dict[str, Any], refresh: int, index: int) -> Tensor:
    """Return a Gaussian projection, entries of variance 1/rank, drawn anew from its seed instead of being kept."""
    rank: int = min(group["rank"], gradient.shape[0])
    generator = torch.Generator().manual_seed((group["seed"] * 1_000_003 + index) * 1_000_003 + refresh)
    drawn = torch.randn(rank, gradient.shape[0], generator=generator)
    projection: Tensor = (drawn / rank**0.5).to(gradient)
    return projection
