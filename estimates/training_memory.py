"""Peak memory of a training process, by part.

A process passes three phases, and its peak is that of the largest: it reads the base model's file, it trains, and it
makes the fingerprint of its result (or writes the whole model). Weights, gradients and states of the optimizer follow
section 3.1 of Rajbhandari et al. 2020, ZeRO (arXiv:1910.02054); what a layer keeps for the backward pass follows
section 4.1 of Korthikanti et al. 2022, Reducing Activation Recomputation in Large Transformer Models
(arXiv:2205.05198), counted anew for blocks with gated inner layers, grouped keys and LoRA.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from estimates.data_shape import PassSize
from estimates.devices import ComputeDevice
from estimates.errors import EstimateError
from estimates.linears import Linear
from estimates.model_config import ModelConfig
from registry.contracts.fine_tune_spec import FineTuneSpec

MIB: Final = 1024**2
PROCESS_BYTES: Final = 430 * MIB
"""Resident bytes of a training process before it loads a model: torch, transformers, PEFT and their libraries.

Measured with `bench/estimating/accuracy.py`; jobs that have ended correct the whole on each machine.
"""
QUANTIZED_PROCESS_BYTES: Final = 40 * MIB
"""Resident bytes of bitsandbytes, where weights are quantized."""
CONTEXT_BYTES: Final = 800 * MIB
"""Bytes of a device that CUDA's context and the kernels of torch and cuBLAS take before anything is stored.

PyTorch's and Hugging Face's documents give 0.5 to 1.3 GB (huggingface.co/docs/transformers/v4.20.1/perf_train_gpu_one).
"""
FRAGMENTS: Final = 0.37
"""Part of the tensors of a pass that it does not keep for the backward pass, which glibc's heap holds all the same.

They lie between those that are kept, and the holes that they leave are too small for the next ones, which begin at
multiples of 64 bytes: measured 0.34 to 0.40 with LoRA, and the same with gradient checkpointing.
"""
FRAGMENTS_CHECKPOINTED: Final = 0.34
HEAP_FULL: Final = 1.4
"""Bytes that the heap holds for each byte that is kept where all weights are trained, measured."""
LOGITS_BUFFERS: Final = 3.6
"""Tensors of the logits' size at the beginning of a backward pass in float32, measured 3.2 to 4.2.

They are the logits, their logarithmic softmax, the gradient of each, and what the allocator keeps.
"""
LOGITS_BYTES_MIXED: Final = 14
"""Bytes of a logit where products are of 16 bits: 2 for itself, 4 each for its float32, log-softmax and gradient."""
NF4_BITS: Final = 4.127
"""Bits of a weight in NF4 with quantized scales: 4 + 8/64 + 32/(64 x 256), section 3 of QLoRA (arXiv:2305.14314)."""
QUANTIZED_LEFT: Final = 0.7
"""Part of the float32 weights that quantizing leaves in glibc's heap, measured; larger matrices are not in the heap."""
HEAP_BLOCK: Final = 32 * MIB
"""From this size on glibc maps a block of its own, and gives its memory back (`M_MMAP_THRESHOLD` in mallopt(3))."""
PROBES: Final = 7
"""Prompts of the fingerprint, which go through the model together (`trainer.training.fingerprint`)."""
LONGEST_PROBE: Final = 256
"""Tokens of the longest prompt that a fingerprint takes."""
PROBE_LOGITS: Final = 17
"""Positions of each whose logits are computed; twice, as they are and as logarithmic softmax."""
ADAPTED: Final[Mapping[str, tuple[str, ...]]] = {
    "qkv_proj": ("q_proj", "k_proj", "v_proj"),
    "gate_up_proj": ("gate_proj", "up_proj"),
}
"""Name of a fused layer -> the layers that it stands for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseMemory:
    """Bytes of one process in one phase, by part; on an accelerator those of a device."""

    phase: str
    parts: Mapping[str, int]

    @property
    def bytes(self) -> int:
        """All parts together."""
        return sum(self.parts.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingMemory:
    """Bytes that a job of *spec* on *model* keeps on *device*; a method for each part."""

    model: ModelConfig
    spec: FineTuneSpec
    device: ComputeDevice

    @property
    def is_mixed(self) -> bool:
        """Whether matrices are multiplied in 16 bits."""
        if self.device.is_processor:
            return self.spec.weights.precision == "bf16"
        return self.spec.weights.precision != "fp32" and self.device.has_bf16

    @property
    def is_full(self) -> bool:
        """Whether all weights are trained."""
        return self.spec.weights.is_full

    def adapter_weights(self) -> int:
        """Return the numbers of the adapter: rank x (inputs + outputs) for each adapted layer (arXiv:2106.09685)."""
        if self.is_full:
            return 0
        rank = self.spec.lora.rank
        extra = sum(each.outputs * each.count for each in self.adapted()) if self.spec.lora.variant == "dora" else 0
        return extra + sum(rank * (each.inputs + each.outputs) * each.count for each in self.adapted())

    def adapted(self) -> list[Linear]:
        """Return the layers that get an adapter; `EstimateError` for a target that the model lacks."""
        found: list[Linear] = []
        for target in self.spec.lora.target_modules:
            wanted = ADAPTED.get(target, (target,))
            layers = [each for each in self.model.linears if each.name in wanted]
            if not layers:
                known = ", ".join(dict.fromkeys(each.name for each in self.model.linears))
                raise EstimateError(f"target_modules {target!r} is not one of the model's {known}", "target_modules")
            found += layers
        return found

    def trained_weights(self) -> int:
        """Return the numbers that are trained."""
        return self.model.parameters if self.is_full else self.adapter_weights()

    def weights(self) -> int:
        """Return the bytes of the base model as it lies in memory, of one process.

        Float32 on a CPU and for full training, else 16 bits; NF4 for QLoRA, whose embedding and norms stay as they are.
        """
        plain = 4 if self.device.is_processor or self.is_full else 2
        parameters = self.model.parameters
        if self.spec.weights.kind != "qlora":
            return self._shared_out(plain * parameters)
        quantized = self.model.linear_weights
        left = 0.0
        if self.device.is_processor:
            left = QUANTIZED_LEFT * sum(4 * each.weights for each in self.model.linears if _is_in_heap(each))
        return int(quantized * NF4_BITS / 8 + left) + plain * (parameters - quantized)

    def casts(self) -> int:
        """Return the bytes of the 16-bit copies of float32 weights that mixed precision makes for a backward pass.

        A weight has 6 bytes then instead of 4 (huggingface.co/docs/transformers, anatomy of a model's memory).
        """
        whole = self.device.is_processor or self.is_full
        if not (self.is_mixed and whole) or self.spec.weights.kind == "qlora":
            return 0
        return self._shared_out(2 * (self.model.linear_weights + self.model.embedding))

    def adapter(self) -> int:
        """Return the bytes of the adapter, which is in float32 as PEFT casts it."""
        return self._shared_out(4 * self.adapter_weights())

    def gradients(self) -> int:
        """Return the bytes of the gradients: 4 for each trained number."""
        return self._split_gradients(4 * self.trained_weights())

    def optimizer(self) -> int:
        """Return the bytes of the optimizer's states.

        AdamW has two numbers for each trained one (arXiv:1910.02054); Adafactor one for each row and column
        (arXiv:1804.04235); GaLore (arXiv:2403.03507) and APOLLO (arXiv:2412.05270) two for each projected one, and
        GaLore its projections.
        """
        kind = self.spec.weights.optimizer.kind
        if kind == "adamw":
            return self._split_gradients(8 * self.trained_weights())
        matrices = [(each.inputs, each.outputs, each.count) for each in self.model.linears] if self.is_full else []
        if kind == "adafactor":
            return 4 * sum((inputs + outputs) * count for inputs, outputs, count in matrices)
        rank = self.spec.weights.optimizer.rank
        states = sum(
            2 * min(rank, inputs, outputs) * max(inputs, outputs) * count for inputs, outputs, count in matrices
        )
        projections = sum(
            min(rank, inputs, outputs) * min(inputs, outputs) * count for inputs, outputs, count in matrices
        )
        rest = 2 * (self.trained_weights() - self.model.linear_weights)
        return 4 * (states + rest + (projections if kind == "galore" else 0))

    def optimizer_workspace(self) -> int:
        """Return the bytes that a step of the optimizer takes for its largest matrix: its root and its quotient."""
        largest = (
            self.model.embedding
            if self.is_full
            else max((each.inputs + each.outputs) * self.spec.lora.rank for each in self.adapted())
        )
        return 8 * largest

    def layer_kept(self) -> float:
        """Return the bytes that a block keeps for the backward pass, for each token.

        In float32: the inputs of both norms and what they give (4 h), queries and what attention gives (2 q), keys and
        values (2 k), the gate before and after its function, the other inner layer and their product (4 m), and the
        rank of each adapted layer. In mixed precision each norm keeps its input in float32, and every adapted layer has
        its input in 16 bits for itself.
        """
        model = self.model
        hidden, inner = model.hidden, model.intermediate
        queries, keys = model.query_width, model.kv_width
        names = self.adapted_names()
        rank = 0 if self.is_full else self.spec.lora.rank * len(names)
        if not self.is_mixed:
            # A frozen layer needs no input for the backward pass; one that is trained or adapted does.
            inputs = hidden * bool(names & {"q_proj", "k_proj", "v_proj"}) + hidden * bool(
                names & {"gate_proj", "up_proj"}
            )
            norms = 2 * hidden if self.is_full else 0
            product = inner if "down_proj" in names else 0
            return 4.0 * (
                2 * hidden + inputs + norms + 2 * queries + 2 * keys + 3 * inner + product + rank + model.heads
            )
        widths = {"q_proj": hidden, "k_proj": hidden, "v_proj": hidden, "o_proj": queries}
        widths |= {"gate_proj": hidden, "up_proj": hidden, "down_proj": inner}
        copies = sum(widths.get(name, hidden) for name in names)
        return 8.0 * hidden + 2.0 * (copies + 2 * queries + 2 * keys + 3 * inner + rank) + 4.0 * model.heads

    def activations(self, size: PassSize) -> int:
        """Return the bytes of a pass that are alive when the backward pass begins.

        With gradient checkpointing each block keeps its input alone, and one block at a time is computed again (Chen et
        al. 2016, arXiv:1604.06174). A mask is made into numbers for each block.
        """
        model, number = self.model, 2 if self.is_mixed else 4
        mask = size.sequences * size.length**2 * number if size.is_masked else 0
        block = self.layer_kept() * size.tokens + mask
        dropped = number * self.layer_dropped() * size.tokens if self.device.is_processor else 0.0
        if self.spec.weights.gradient_checkpointing:
            inputs = model.layers * model.hidden * size.tokens * number
            return int(inputs + block + FRAGMENTS_CHECKPOINTED * dropped * model.layers)
        if self.device.is_processor and self.is_full:
            return int(HEAP_FULL * block * model.layers)
        return int((block + FRAGMENTS * dropped) * model.layers)

    def layer_dropped(self) -> float:
        """Return the numbers that a block makes for each token and does not keep.

        A norm makes two, a rotation three and a half, and an adapted layer three beside its result: that of the base,
        that of the adapter, and the latter scaled.
        """
        model = self.model
        hidden, inner, queries, keys = model.hidden, model.intermediate, model.query_width, model.kv_width
        names = set() if self.is_full else self.adapted_names()
        widths = {"q_proj": queries, "k_proj": keys, "v_proj": keys, "o_proj": hidden}
        widths |= {"gate_proj": inner, "up_proj": inner, "down_proj": hidden}
        plain = 4.0 * hidden + 4.5 * (queries + keys) + 2.0 * hidden
        return plain + sum(3.0 * widths.get(name, hidden) for name in names)

    def logits(self, size: PassSize) -> int:
        """Return the bytes of logits, softmax and gradients over the vocabulary, where a row is learnt."""
        numbers = size.logits * self.model.vocabulary
        return int(numbers * (LOGITS_BYTES_MIXED if self.is_mixed else 4 * LOGITS_BUFFERS))

    def process(self) -> int:
        """Return the bytes that a process has before it loads anything."""
        if not self.device.is_processor:
            return CONTEXT_BYTES
        return PROCESS_BYTES + (QUANTIZED_PROCESS_BYTES if self.spec.weights.kind == "qlora" else 0)

    def adapted_names(self) -> set[str]:
        """Return the kinds of linear layers whose inputs are needed in the backward pass."""
        return {name for target in self._targets() for name in ADAPTED.get(target, (target,))}

    def _targets(self) -> tuple[str, ...]:
        everything = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
        return everything if self.is_full else self.spec.lora.target_modules

    def _shared_out(self, whole: int) -> int:
        """Return the part of weights that a process has where FSDP or ZeRO 3 split them."""
        parallel = self.spec.parallel
        return -(-whole // parallel.processes) if parallel.shards_weights else whole

    def _split_gradients(self, whole: int) -> int:
        """Return the part of gradients and states that a process has: FSDP, ZeRO 2 and ZeRO 3 split them."""
        parallel = self.spec.parallel
        splits = parallel.processes > 1 and parallel.parallelism != "ddp"
        return -(-whole // parallel.processes) if splits else whole


def _is_in_heap(layer: Linear) -> bool:
    return 4 * layer.inputs * layer.outputs < HEAP_BLOCK
