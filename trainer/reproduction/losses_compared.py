"""How far the losses of two runs differ, step by step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from registry.contracts.reproductions.reproduction_report import LossesDifference, StepDifference
from registry.jobs.job import JobEvent

MOST_STEPS: Final = 500
"""So many differing steps are listed one by one."""


def losses_of(events: Iterable[JobEvent]) -> dict[int, float]:
    """Return step -> loss of a job's events, newest first: a step that was done again has the loss of last time."""
    losses: dict[int, float] = {}
    for event in events:
        if "train_loss" in event.data:
            losses.setdefault(event.data["step"], event.data["train_loss"])
    return losses


def compare_losses(recorded: Mapping[int, float], again: Mapping[int, float]) -> LossesDifference:
    """Return how far the losses of the steps *again* are from those *recorded*."""
    both = sorted(set(recorded) & set(again))
    differing = [
        StepDifference(step=step, recorded=recorded[step], again=again[step])
        for step in both
        if recorded[step] != again[step]
    ]
    every = -(-len(differing) // MOST_STEPS) or 1
    return LossesDifference(
        compared=len(both),
        missing=len(set(recorded) ^ set(again)),
        differing=len(differing),
        first_step=differing[0].step if differing else None,
        largest=max((abs(each.again - each.recorded) for each in differing), default=0.0),
        steps=differing[::every],
    )
