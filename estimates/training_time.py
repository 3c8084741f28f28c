"""The seconds of a training job, from operations and the speed of its device.

A linear weight takes 2 operations for each token forward and 4 backward, of which LoRA needs the half: the gradient of
the inputs, not that of the weights (section 2.1 of Kaplan et al. 2020, arXiv:2001.08361; Hu et al. 2021,
arXiv:2106.09685).
Attention takes 4 operations for each number of the heads' width and each token attended to, and 10 backward (Dao et al.
2022, arXiv:2205.14135).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from estimates.data_shape import PassSize
from estimates.training_memory import TrainingMemory
from estimates.training_phases import Workings

PROCESSOR_EFFICIENCY: Final = 0.35
"""Part of a core's operations a second that training reaches, measured with the bundled model on one thread."""
DEVICE_EFFICIENCY: Final = 0.35
"""The same of an accelerator; 0.2 to 0.46 were reached for large models (table 3 of PaLM, arXiv:2204.02311)."""
DECODING_EFFICIENCY: Final = 0.05
"""The same while outputs are sampled token by token, when weights are read more than computed with."""
START_S: Final = 12.0
"""Seconds for imports, reading the file and preparing, and for the fingerprint of the bundled model, measured."""
READING_BYTES_A_SECOND: Final = 500e6
"""Bytes of weights that are read in a second."""
VALIDATED_BATCHES: Final = 10
"""Batches of the validation file that are measured during a run, beside whole measurements."""
CHECKPOINTING: Final = 1
"""Forward passes more that gradient checkpointing takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingTime:
    """The seconds of a job."""

    step_s: float
    """Seconds of one step of the optimizer."""
    steps: int
    other_s: float
    """Before the first and after the last step, and validation."""

    @property
    def seconds(self) -> float:
        """All of them together."""
        return self.steps * self.step_s + self.other_s


def training_time(memory: TrainingMemory, found: Workings) -> TrainingTime:
    """Return the time of a job whose passes are *found*."""
    spec, device = memory.spec, memory.device
    efficiency = PROCESSOR_EFFICIENCY if device.is_processor else DEVICE_EFFICIENCY
    mean = sum(_pass_operations(memory, size) for size in found.passes) / len(found.passes)
    batch = min(spec.batch_size, found.shape.rows)
    passes = -(-batch // (found.plan.rows * spec.parallel.processes))
    step_s = passes * mean / (device.flops * efficiency) + _sampling_s(memory, batch)
    steps = spec.n_epochs * spec.repeats() * -(-found.shape.rows // spec.batch_size)
    loads = 1 if spec.weights.kind == "lora" and not spec.lora.changes_base else 2
    reading = loads * memory.model.stored_bytes / READING_BYTES_A_SECOND
    validating = _validation_s(memory, found, steps)
    return TrainingTime(step_s=step_s, steps=steps, other_s=START_S + reading + validating)


def _validation_s(memory: TrainingMemory, found: Workings, steps: int) -> float:
    """Return the seconds in which the validation rows are measured, as the trainer does: in whole and in batches."""
    spec, device, shape = memory.spec, memory.device, found.shape
    if not shape.validation_rows:
        return 0.0
    samples = spec.sampled_outputs() is not None
    whole = {*range(0, steps, spec.evaluation_steps(-(-shape.rows // spec.batch_size))), steps} - {0}
    # What samples outputs is measured at evaluations alone; the rest at checkpoints too, and a batch in between.
    whole |= set() if samples else set(range(spec.checkpoint_steps, steps, spec.checkpoint_steps))
    batches = 0 if samples else min(steps, VALIDATED_BATCHES) * found.plan.rows
    rows = (len(whole) * shape.validation_rows + batches) / spec.parallel.processes
    if samples:
        return _decoding_s(memory, rows * spec.evaluated_outputs())
    efficiency = PROCESSOR_EFFICIENCY if device.is_processor else DEVICE_EFFICIENCY
    mean = sum(forward_operations(memory, size) for size in found.passes) / len(found.passes)
    return rows / found.plan.rows * mean / (device.flops * efficiency)


def forward_operations(memory: TrainingMemory, size: PassSize) -> float:
    """Return the operations of one forward pass."""
    model = memory.model
    linear = 2.0 * model.active_weights * size.tokens
    attention = 4.0 * model.attention_layers * model.query_width * size.tokens * size.length
    return linear + attention + 2.0 * model.embedding * size.logits


def _pass_operations(memory: TrainingMemory, size: PassSize) -> float:
    """Return the operations of a pass forward and backward, and of those that come with it."""
    spec = memory.spec
    times = 3.0 if spec.weights.is_full else 2.0
    times += CHECKPOINTING if spec.weights.gradient_checkpointing else 0
    times += spec.passes_without_gradient()
    return times * forward_operations(memory, size)


def _sampling_s(memory: TrainingMemory, batch: int) -> float:
    """Return the seconds in which the outputs of a step of *batch* prompts are sampled."""
    spec = memory.spec
    sampled = spec.sampled_outputs()
    if sampled is None:
        return 0.0
    return _decoding_s(memory, batch * sampled[0] / spec.parallel.processes) / spec.repeats()


def _decoding_s(memory: TrainingMemory, outputs: float) -> float:
    """Return the seconds in which a process samples so many outputs of full length."""
    sampled = memory.spec.sampled_outputs()
    tokens = 0.0 if sampled is None else outputs * sampled[1]
    operations = 2.0 * (memory.model.active_weights + memory.model.embedding) * tokens
    return operations / (memory.device.flops * DECODING_EFFICIENCY)
