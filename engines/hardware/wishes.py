"""Wishes of a person for the choice of an engine, and the choice itself."""

from __future__ import annotations

from dataclasses import dataclass

from engines.base_task import BaseTask
from engines.kinds import Precision, Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """The decisions of a person; None leaves one to the choice."""

    kind: str | None = None
    precision: Precision | None = None
    context: int | None = None
    batch: int | None = None
    adapters: int | None = None
    """Places for adapters; 0 is the base model alone."""
    rank: int = 64
    """Highest rank that a place has room for."""
    tensor_parallel: int | None = None
    workload: Workload = Workload.MIXED
    ready: frozenset[tuple[str, str]] | None = None
    """Kind and variant of the environments that are whole; None considers all kinds as if they were."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes of one device, or of the machine when it is a CPU."""

    total: int
    usable: int
    """Bytes that an engine is given."""
    reserve: int
    """Part of `usable` for computing: workspace, graphs, buffers; on a CPU Lorry's other processes."""
    weights: int
    slots: int
    kv: int
    """On accelerators all that remains; on a CPU what a full batch takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which engine, how, and why."""

    kind: str
    hardware: str
    """`cpu`, or the vendor of the devices."""
    devices: int
    """Number of devices of the kind that is used; 0 on a CPU."""
    precision: Precision
    tensor_parallel: int
    context: int
    """Longest prompt and answer together, in tokens."""
    batch: int
    """Sequences at a time."""
    adapters: int
    """Places for adapters that may share a batch."""
    rank: int
    memory: Memory
    kv_bytes_per_token: int
    largest_context: int
    """Longest context of one sequence alone."""
    largest_batch: int
    """Most sequences of full length."""
    task: BaseTask = BaseTask.GENERATE
    extra_args: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    """A sentence each for kind, precision, devices and sizes."""

    @property
    def replicas(self) -> int:
        """Number of such engines that the devices hold."""
        return max(1, self.devices // self.tensor_parallel)
