"""How much memory a target takes."""

from __future__ import annotations

from dataclasses import dataclass

from bench.comparison.process_tree import memory_mb
from bench.comparison.targets import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Memory of one target as proportional set size (PSS), which counts a shared page once."""

    target: str
    processes: int
    serving_mb: float
    whole_mb: float


def memory_of(target: Target) -> Memory:
    """Return the present memory of *target*."""
    serving, whole = target.serving(), target.whole()
    return Memory(
        target=target.name,
        processes=len(serving),
        serving_mb=memory_mb(serving),
        whole_mb=memory_mb(whole),
    )
