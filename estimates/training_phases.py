"""The phases of a training process, each with the memory that it takes, and the largest pass of a job."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from engines.hardware.memory import kv_bytes_per_token
from engines.kinds import Precision
from estimates.data_shape import DataShape, PassPlan, PassSize, draw_passes, token_work
from estimates.training_memory import HEAP_BLOCK, LONGEST_PROBE, PROBE_LOGITS, PROBES, PhaseMemory, TrainingMemory
from registry.contracts.fine_tune_spec import FineTuneSpec
from registry.states import ResultKind

SEQUENCES_AT_ONCE: Final = 32
"""Outputs that are sampled together (`trainer.training.sampling.outputs`)."""
LARGEST_FILE: Final = 5 * 10**9
"""Bytes of a file of weights: transformers splits a model into files of so many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workings:
    """The passes of a job: drawn ones, and the plan that made them."""

    plan: PassPlan
    passes: tuple[PassSize, ...]
    shape: DataShape
    """The rows as they are learnt, with outputs that are yet to be sampled."""


def micro_rows(spec: FineTuneSpec) -> int:
    """Return the rows that go through the model at once, as `trainer.training.arguments` finds them."""
    share = spec.batch_size // spec.parallel.processes
    fitting = [size for size in range(1, spec.rows_at_once() + 1) if share % size == 0]
    return spec.weights.micro_batch_size or max(fitting, default=1)


def workings(memory: TrainingMemory, shape: DataShape) -> Workings:
    """Return the passes that a job on rows of *shape* makes."""
    spec, model = memory.spec, memory.model
    learnt = shape
    if (sampled := spec.sampled_outputs()) is not None:
        learnt = shape.sampling(*sampled)
    asked = spec.packs_rows()
    packs = asked if model.can_pack and (memory.device.is_processor or asked) else False
    rows = min(micro_rows(spec), -(-learnt.rows // spec.parallel.processes))  # a small file has no more
    plan = PassPlan(rows=rows, packs=packs, shares=spec.lora.dropout == 0.0, token_work=token_work(model))
    return Workings(plan=plan, passes=tuple(draw_passes(learnt, plan)), shape=learnt)


def phases(memory: TrainingMemory, found: Workings) -> Iterator[PhaseMemory]:
    """Yield the phases of one process in their order."""
    yield _loading(memory)
    largest = max(found.passes, key=lambda size: memory.activations(size) + memory.logits(size))
    training = _training(memory, largest)
    if (sampled := memory.spec.sampled_outputs()) is not None:
        yield _sampling(memory, found, *sampled)
        training = replace(training, parts=dict(training.parts) | _reward_model(memory))
    yield training
    yield _finishing(memory, found, training)


def _loading(memory: TrainingMemory) -> PhaseMemory:
    """Return the memory while the base model is read: on a CPU its mapped file counts beside the weights."""
    parts = {"process": memory.process(), "weights": memory.weights()}
    if memory.device.is_processor:
        parts["file"] = min(memory.model.stored_bytes, LARGEST_FILE)
    return PhaseMemory(phase="loading", parts=parts)


def _training(memory: TrainingMemory, largest: PassSize) -> PhaseMemory:
    """Return the memory at the beginning of a backward pass, or of an optimizer's step if that is more."""
    parts = {
        "process": memory.process(),
        "weights": memory.weights() + memory.casts() + _gathered_layer(memory),
        "adapter": memory.adapter(),
        "gradients": memory.gradients(),
        "optimizer": memory.optimizer(),
        # The base with its adapter off is the reference of every method here.
        "reference_model": 0,
    }
    # Gradients find no room in what activations leave: both are held in full, on a CPU as measured.
    activations = max(memory.activations(largest), memory.optimizer_workspace())
    return PhaseMemory(phase="training", parts=parts | {"activations": activations, "logits": memory.logits(largest)})


def _gathered_layer(memory: TrainingMemory) -> int:
    """Return the bytes of two blocks that are whole for a moment where the weights are split (FSDP, ZeRO 3)."""
    if not memory.spec.parallel.shards_weights:
        return 0
    each = memory.model.linear_weights // memory.model.layers
    return 2 * each * (4 if memory.device.is_processor or memory.is_full else 2)


def _sampling(memory: TrainingMemory, found: Workings, outputs: int, longest: int) -> PhaseMemory:
    """Return the memory while outputs are sampled: keys and values of all of them, and two sets of their logits."""
    model = memory.model
    sequences = outputs * max(1, min(memory.spec.batch_size, found.shape.rows, SEQUENCES_AT_ONCE // outputs))
    length = max(row.prompt for row in found.shape.sample) + longest
    precision = Precision.FP32 if memory.device.is_processor else Precision.BF16
    parts = {
        "process": memory.process(),
        "weights": memory.weights(),
        "adapter": memory.adapter(),
        "optimizer": memory.optimizer(),
        "kv": sequences * length * kv_bytes_per_token(model.shape(), precision),
        "logits": 3 * 4 * sequences * model.vocabulary,
        **_reward_model(memory),
    }
    return PhaseMemory(phase="sampling", parts=parts)


def _reward_model(memory: TrainingMemory) -> dict[str, int]:
    """Return the bytes of the reward models that the grader asks: each is the base once more, in the host's memory."""
    if not memory.device.is_processor:
        return {}
    return {"reward_models": 4 * len(memory.spec.artifacts()) * memory.model.parameters}


def _logits_are_small(memory: TrainingMemory, found: Workings) -> bool:
    return max(size.logits for size in found.passes) * memory.model.vocabulary * 4 < HEAP_BLOCK


def _finishing(memory: TrainingMemory, found: Workings, training: PhaseMemory) -> PhaseMemory:
    """Return the memory of the fingerprint, or of writing a whole model.

    On a CPU the heap keeps what training took. QLoRA and variants that change the base load it anew, as it is served,
    into the host's memory.
    """
    spec, model = memory.spec, memory.model
    # Buffers that are small enough lie in the heap as well.
    in_heap = training.parts["logits"] if memory.device.is_processor and _logits_are_small(memory, found) else 0
    kept = dict(training.parts) | {"logits": in_heap}
    if not memory.device.is_processor:
        kept["activations"] = 0
    if spec.result_kind() is ResultKind.CHECKPOINT:
        # Copies of a file's tensors, and the same once more as they are written; gradients are gone by then.
        left = {"gradients": 0, "activations": max(kept["gradients"], kept["activations"])}
        return PhaseMemory(phase="finishing", parts=kept | left | {"file": 2 * min(model.stored_bytes, LARGEST_FILE)})
    if spec.result_kind() is ResultKind.REWARD:
        return PhaseMemory(phase="finishing", parts=kept)
    probes = 2 * PROBES * PROBE_LOGITS * model.vocabulary * 4
    longest = min(LONGEST_PROBE, max(row.prompt for row in found.shape.sample)) + PROBE_LOGITS
    precision = Precision.FP32 if memory.device.is_processor else Precision.BF16
    probe_kv = PROBES * longest * kv_bytes_per_token(model.shape(), precision)
    if spec.weights.kind == "lora" and not spec.lora.changes_base:
        return PhaseMemory(phase="finishing", parts=kept | {"logits": in_heap + probes, "kv": probe_kv})
    parts = {"process": memory.process(), "adapter": memory.adapter(), "optimizer": memory.optimizer()}
    if memory.device.is_processor:
        file = min(model.stored_bytes, LARGEST_FILE)
        parts |= {"weights": 4 * model.parameters, "logits": probes, "kv": probe_kv, "file": file}
    return PhaseMemory(phase="finishing", parts=parts)
