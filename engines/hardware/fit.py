"""The sizes that one engine can have on one place: `Fit`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Final

from engines.base_task import BaseTask
from engines.hardware.machine import GB
from engines.hardware.memory import embedding_parameters, kv_bytes_per_token, slot_bytes, weight_bytes, widened_bytes
from engines.hardware.rules import Candidate, has_adapters, why_no_adapters
from engines.hardware.shape import ModelShape
from engines.hardware.wishes import Choice, Memory, Wishes
from engines.kinds import Precision

DEVICE_SHARE: Final = 0.9
"""Share of a device's memory that an engine is given; vLLM's own default."""
DEVICE_RESERVE: Final = 2 * GB
"""Bytes of that share for workspace, graphs and activations; estimated, as no accelerator was at hand."""
PROCESSOR_SHARE: Final = 0.8
"""Share of a machine's memory that Lorry may take."""
PROCESSOR_RESERVE: Final = 2 * GB
"""Bytes of that share for Ray, gateways, controller and what the engine needs beside weights and cache."""
USUAL_FRACTION: Final = 4
"""Engines with a paged cache are given so many times the sequences that fit at full length: most are shorter."""

_DEVICE_CONTEXT: Final = 8192
_DEVICE_BATCH: Final = 256
_DEVICE_SLOTS: Final = 8
_COMFORTABLE_BATCH: Final = 16
_FEW: Final = 4
_PROCESSOR_CONTEXT: Final = 2048
_PROCESSOR_BATCH: Final = 16
_PROCESSOR_SLOTS: Final = 16
_LEAST_CONTEXT: Final = 2048
_DEGREES: Final = (1, 2, 4, 8, 16)


def degrees(candidate: Candidate, model: ModelShape) -> list[int]:
    """Return the numbers of devices that the layers can be shared out to."""
    limit = max(1, len(candidate.place.devices))
    heads, keys = model.heads, model.kv_heads
    return [n for n in _DEGREES if n <= limit and heads % n == 0 and (keys % n == 0 or n % keys == 0)]


class Fit:
    """An engine in one precision: the fewest devices, then the largest sizes that fit."""

    def __init__(self, candidate: Candidate, model: ModelShape, wishes: Wishes, precision: Precision, why: str) -> None:
        self._candidate = candidate
        self._model = model
        self._wishes = wishes
        self._precision = precision
        self._why = why
        self._on_cpu = not candidate.place.devices
        self._tried = [wishes.tensor_parallel] if wishes.tensor_parallel else degrees(candidate, model)

    def choice(self) -> Choice | None:
        """Return the sizes that fit; None when none does.

        The fewest devices on which they are comfortable; else the fewest on which anything fits, adapters giving way to
        sequences until there are a few.
        """
        for degree in self._tried:
            made = self._sized(degree, next(self._contexts()), next(self._slots()))
            if made is not None and made.batch >= (self._wishes.batch or _COMFORTABLE_BATCH):
                return made
        for least in (self._wishes.batch or _FEW, 1):
            for degree, context, slots in product(self._tried, self._contexts(), self._slots()):
                made = self._sized(degree, context, slots)
                if made is not None and made.batch >= least:
                    return made
        return None

    def shortage(self) -> str:
        """Return what the smallest sizes that were tried would take, against what is there."""
        degree = self._tried[-1]
        context, slots = list(self._contexts())[-1], list(self._slots())[-1]
        kv = context * self._kv_token(degree) * (self._wishes.batch or 1 if self._is_strict else 1)
        weights, places = self._weights(degree), slots * self._slot(degree)
        total, usable, reserve = self._room()
        parts = [f"{_gb(weights * degree)} of weights in {self._precision}"]
        if slots:
            parts.append(f"{_gb(places * degree)} for {slots} adapter(s) of rank {self._wishes.rank}")
        parts.append(f"{_gb(kv * degree)} for {self._held} of {context} tokens")
        needed = (weights + places + kv) * degree
        usable_bytes = max(0, usable - reserve) * degree
        there = f"{degree} x {_gb(total)}" if not self._on_cpu else f"{_gb(total)} of memory"
        share = DEVICE_SHARE if not self._on_cpu else PROCESSOR_SHARE
        return (
            f"{self._model.name} needs {_gb(needed)} ({', '.join(parts)}); {there}, of which {share:.0%} are used, "
            f"less {_gb(reserve)} each for computing, leave {_gb(usable_bytes)}"
        )

    @property
    def _is_strict(self) -> bool:
        """Whether every sequence of the batch has room at full length."""
        return self._on_cpu

    def _contexts(self) -> Iterator[int]:
        if self._wishes.context is not None:
            yield self._wishes.context
            return
        context = min(self._model.max_context, _PROCESSOR_CONTEXT if self._on_cpu else _DEVICE_CONTEXT)
        while context > _LEAST_CONTEXT:
            yield context
            context //= 2
        yield min(self._model.max_context, _LEAST_CONTEXT)

    def _slots(self) -> Iterator[int]:
        if not has_adapters(self._candidate, self._model):
            yield 0
        elif self._wishes.adapters is not None:
            yield self._wishes.adapters
        else:
            slots = _PROCESSOR_SLOTS if self._on_cpu else _DEVICE_SLOTS
            while slots:
                yield slots
                slots //= 2

    def _batch(self, kv_room: int, context: int, kv_token: int) -> int:
        """Return the sequences at a time; 0 when not one fits, or fewer than were asked for."""
        full = kv_room // (kv_token * context)
        if self._wishes.batch is not None:
            enough = full >= self._wishes.batch if self._is_strict else full >= 1
            return self._wishes.batch if enough else 0
        if self._is_strict:
            return min(_PROCESSOR_BATCH, full)
        return min(_DEVICE_BATCH, USUAL_FRACTION * full) if full else 0

    def _sized(self, degree: int, context: int, slots: int) -> Choice | None:
        total, usable, reserve = self._room()
        weights, places, kv_token = self._weights(degree), slots * self._slot(degree), self._kv_token(degree)
        kv_room = usable - reserve - weights - places
        batch = self._batch(kv_room, context, kv_token)
        if batch < 1:
            return None
        kv = batch * context * kv_token if self._on_cpu else kv_room
        memory = Memory(total=total, usable=usable, reserve=reserve, weights=weights, slots=places, kv=kv)
        sizes = _Sizes(degree=degree, context=context, batch=batch, slots=slots)
        vendor = self._candidate.place.vendor
        return Choice(
            kind=self._candidate.kind,
            hardware=str(vendor or "cpu"),
            devices=len(self._candidate.place.devices),
            precision=self._precision,
            tensor_parallel=degree,
            context=context,
            batch=batch,
            adapters=slots,
            rank=self._wishes.rank,
            memory=memory,
            kv_bytes_per_token=kv_token,
            largest_context=min(self._model.max_context, kv_room // kv_token),
            largest_batch=kv_room // (kv_token * context),
            task=self._model.task,
            extra_args=self._extra_args(),
            reasons=self._reasons(sizes, memory, kv_token),
        )

    def _reasons(self, sizes: _Sizes, memory: Memory, kv_token: int) -> tuple[str, ...]:
        each = "" if sizes.degree == 1 else " on each device"
        if self._on_cpu:
            devices = f"one process: weights take {_gb(memory.weights)} of {_gb(memory.total)}"
        elif sizes.degree == 1:
            devices = f"1 device: {_gb(memory.weights)} of weights fit into {_gb(memory.total)}"
        else:
            devices = (
                f"{sizes.degree} devices share each layer: {_gb(memory.weights)} of weights each; fewer leave less room"
            )
        return (
            self._candidate.why,
            f"{self._precision}: {self._why}",
            devices,
            f"context {sizes.context}, batch {sizes.batch}: {_gb(memory.kv)} for {self._held}{each}, "
            f"{kv_token / 1000:.1f} kB a token",
            self._slots_reason(sizes, memory),
        )

    def _slots_reason(self, sizes: _Sizes, memory: Memory) -> str:
        if self._model.task is not BaseTask.GENERATE:
            return f"no adapters: {why_no_adapters(self._model)}"
        if not has_adapters(self._candidate, self._model):
            return "no adapters: the engine serves none there"
        if not sizes.slots:
            return "no adapters: none were asked for"
        each = _gb(memory.slots // sizes.slots)
        return f"{sizes.slots} adapter(s) of rank up to {self._wishes.rank}: {each} each"

    @property
    def _held(self) -> str:
        """Name what grows with the tokens of a batch."""
        return "keys and values" if self._model.task is BaseTask.GENERATE else "the states of a pass"

    def _extra_args(self) -> tuple[str, ...]:
        if self._model.task is not BaseTask.GENERATE:
            return self._candidate.row.encoder_arguments or ()
        mode = self._candidate.four_bit
        found = self._model.quantization
        return () if mode is None or found is None else (*mode.arguments, mode.formats[found.method])

    def _room(self) -> tuple[int, int, int]:
        """Return the bytes of a device or of the machine: all, usable, reserved of the usable."""
        if self._on_cpu:
            total = self._candidate.place.processor.memory_bytes
            return total, int(total * PROCESSOR_SHARE), PROCESSOR_RESERVE
        total = self._candidate.place.devices[0].memory_bytes
        return total, int(total * DEVICE_SHARE), DEVICE_RESERVE

    def _weights(self, degree: int) -> int:
        whole = weight_bytes(self._model, self._precision)
        found = self._model.quantization
        if found is not None and found.scheme in self._candidate.row.quantized.widened:
            whole = widened_bytes(self._model)
        if self._candidate.row.hardware.copies_tied_embedding and self._model.is_tied:
            whole += 4 * embedding_parameters(self._model)  # 4 bytes of float32 each
        return whole // degree

    def _slot(self, degree: int) -> int:
        return slot_bytes(self._model, self._wishes.rank, self._computed_in, degree)

    def _kv_token(self, degree: int) -> int:
        return kv_bytes_per_token(self._model, self._computed_in, degree)

    @property
    def _computed_in(self) -> Precision:
        """The precision of keys, values and adapters: on a CPU fp32 beside quantized weights."""
        return Precision.FP32 if self._on_cpu and self._model.quantization is not None else self._precision


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sizes:
    degree: int
    context: int
    batch: int
    slots: int


def _gb(size: int) -> str:
    return f"{size / GB:.1f} GB"
