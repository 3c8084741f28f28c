"""GaLore and APOLLO follow their papers, and a continued run goes on bit for bit."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch

from trainer.training.projected_adamw import GROWTH, ProjectedAdamW

RATE, FIRST, SECOND = 0.1, 0.9, 0.999


def group_of(kind: str, parameter: torch.nn.Parameter, rank: int = 2, interval: int = 3) -> list[dict[str, Any]]:
    return [
        {"params": [parameter], "projection": kind, "rank": rank, "interval": interval, "scale": 0.5, "seed": 3},
    ]


def gradients(shape: tuple[int, int], count: int = 5) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(count)]


def stepped(optimizer: torch.optim.Optimizer, parameter: torch.nn.Parameter, found: list[torch.Tensor]) -> torch.Tensor:
    for gradient in found:
        parameter.grad = gradient.clone()
        optimizer.step()
    return parameter.detach().clone()


def started(shape: tuple[int, int]) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.ones(shape, dtype=torch.float64))


@pytest.mark.parametrize("shape", [(4, 6), (6, 4)])
def test_galore_is_adam_in_the_space_of_the_largest_singular_vectors(shape: tuple[int, int]) -> None:
    parameter, expected = started(shape), torch.ones(shape, dtype=torch.float64)
    mean, square, basis = torch.zeros(()), torch.zeros(()), torch.zeros(())
    for step, gradient in enumerate(gradients(shape)):
        wide = gradient if shape[0] <= shape[1] else gradient.T
        if step % 3 == 0:
            basis = torch.linalg.svd(wide.float(), full_matrices=False)[0][:, :2].double()
        low = basis.T @ wide
        mean, square = FIRST * mean + (1 - FIRST) * low, SECOND * square + (1 - SECOND) * low**2
        normal = mean / (1 - FIRST ** (step + 1)) / ((square / (1 - SECOND ** (step + 1))).sqrt() + 1e-8)
        update = 0.5 * basis @ normal
        expected = expected - RATE * (update if shape[0] <= shape[1] else update.T)
    found = stepped(ProjectedAdamW(group_of("galore", parameter), lr=RATE), parameter, gradients(shape))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


def test_galore_of_full_rank_and_no_projection_are_adam() -> None:
    plain, full, torchs = started((4, 6)), started((4, 6)), started((4, 6))
    adam = stepped(torch.optim.AdamW([torchs], lr=RATE, weight_decay=0.0), torchs, gradients((4, 6)))
    ours = stepped(ProjectedAdamW([{"params": [plain]}], lr=RATE), plain, gradients((4, 6)))
    torch.testing.assert_close(ours, adam, rtol=1e-9, atol=1e-12)
    rotated = group_of("galore", full, rank=4, interval=100)
    moved = stepped(ProjectedAdamW(rotated, lr=RATE), full, gradients((4, 6), 1)) - 1
    basis = torch.linalg.svd(gradients((4, 6), 1)[0].float(), full_matrices=False)[0].double()
    torch.testing.assert_close(
        moved, -RATE * 0.5 * basis @ (basis.T @ gradients((4, 6), 1)[0]).sign(), atol=1e-6, rtol=0
    )


def test_apollo_scales_each_column_of_the_gradient() -> None:
    parameter = started((4, 6))
    found = gradients((4, 6), 2)
    moved = 1 - stepped(ProjectedAdamW(group_of("apollo", parameter), lr=RATE), parameter, found[:1])
    factors = moved / found[0]
    torch.testing.assert_close(factors, factors[:1].expand_as(factors))
    seed = (3 * 1_000_003 + 0) * 1_000_003
    projection = torch.randn(2, 4, generator=torch.Generator().manual_seed(seed)).double() / 2**0.5
    low = projection @ found[0]
    expected = RATE * 0.5 * low.sign().norm(dim=0) / low.norm(dim=0)
    torch.testing.assert_close(factors[0], expected, rtol=1e-6, atol=1e-9)


def test_apollos_updates_grow_by_one_percent_at_most() -> None:
    parameter = started((4, 6))
    optimizer = ProjectedAdamW(group_of("apollo", parameter), lr=RATE)
    before = parameter.detach().clone()
    sizes = []
    for factor in (1.0, 50.0, 2500.0):
        after = stepped(optimizer, parameter, [gradients((4, 6), 1)[0] * factor])
        sizes.append(float((after - before).norm()))
        before = after
    assert all(later <= earlier * GROWTH * (1 + 1e-6) for earlier, later in pairwise(sizes))


@pytest.mark.parametrize("kind", ["galore", "apollo"])
def test_a_stored_state_goes_on_bit_for_bit(kind: str, tmp_path: Any) -> None:
    straight, stopped = started((4, 6)), started((4, 6))
    whole = stepped(ProjectedAdamW(group_of(kind, straight), lr=RATE), straight, gradients((4, 6)))
    first = ProjectedAdamW(group_of(kind, stopped), lr=RATE)
    stepped(first, stopped, gradients((4, 6))[:4])
    torch.save(first.state_dict(), tmp_path / "optimizer.pt")
    second = ProjectedAdamW(group_of(kind, stopped), lr=RATE)
    second.load_state_dict(torch.load(tmp_path / "optimizer.pt", weights_only=True))
    assert torch.equal(stepped(second, stopped, gradients((4, 6))[4:]), whole)
