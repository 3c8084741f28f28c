"""The base model with our attention and linear layers in place, and one forward pass over a planned step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import AttentionInterface, AutoConfig, AutoModelForCausalLM, AutoTokenizer

from conversations.chat_template import ChatTemplate
from engines.quantization import quantization_in
from engines.transformers.cache import (
    ATTENTION_NAME,
    AttentionPlan,
    CacheShape,
    SlotCache,
    attend,
    plan_decode,
    plan_prompt,
)
from engines.transformers.embedding import halve_embedding
from engines.transformers.errors import UnsupportedModel
from engines.transformers.linear import AdaptedLinear, Segment, SharedProduct, StepSegments, product_of
from engines.transformers.quantized.checkpoint import load_quantized
from engines.transformers.quantized.products import kind_of_product, product_of_weights
from engines.transformers.quantized.weights import QuantizedWeight
from engines.transformers.scheduler import Row, StepPlan

SUPPORTED: Final = ("llama", "mistral", "qwen2", "qwen3")
"""Values of `model_type` whose attention is plain and causal; ours computes no other."""

READ_TOGETHER: Final = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Layers that all these models call one after the other, in this order, with the same rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A model that is ready to step, with its tokenizer, chat template and sizes."""

    model: nn.Module
    codec: Tokenizer
    template: ChatTemplate
    layers: dict[str, AdaptedLinear]
    """Layers that adapters may change, by their name in the model."""
    segments: StepSegments
    end_tokens: frozenset[int]
    vocabulary: int
    context: int
    cache_shape: CacheShape


def load_model(folder: Path, *, slots: int, max_context: int) -> LoadedModel:
    """Read the model in *folder*, quantized layers as they are and the rest in float32; `UnsupportedModel`."""
    AttentionInterface.register(ATTENTION_NAME, attend)
    model_type = AutoConfig.from_pretrained(folder, local_files_only=True).model_type
    if model_type not in SUPPORTED:
        raise UnsupportedModel(f"{folder}: model_type {model_type!r} is not one of {', '.join(SUPPORTED)}")
    model, weights = read_weights(folder)
    config = model.config
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if not tokenizer.is_fast:
        raise UnsupportedModel(f"{folder}: it has no tokenizer.json")
    segments = StepSegments()
    layers = adapt_layers(model, segments, weights)
    halve_embedding(model)
    fields = config.to_dict()
    # Up to the length of its window sliding attention is plain causal attention, the only kind computed here.
    context = min(max_context, config.max_position_embeddings, fields.get("sliding_window") or max_context)
    return LoadedModel(
        model=model,
        codec=tokenizer.backend_tokenizer,
        template=ChatTemplate(tokenizer),
        layers=layers,
        segments=segments,
        end_tokens=end_tokens_of(model, tokenizer),
        vocabulary=config.vocab_size,
        context=context,
        cache_shape=CacheShape(
            layers=config.num_hidden_layers,
            slots=slots,
            heads=config.num_key_value_heads,
            positions=context,
            head_size=fields.get("head_dim") or config.hidden_size // config.num_attention_heads,
        ),
    )


def read_weights(folder: Path) -> tuple[Any, Mapping[str, QuantizedWeight]]:
    """Return the model in *folder*, and the weights of those of its linear layers that are quantized."""
    if quantization_in(folder) is not None:
        return load_quantized(folder, ATTENTION_NAME)
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation=ATTENTION_NAME, local_files_only=True
    )
    return model.eval(), {}


def adapt_layers(
    model: Any, segments: StepSegments, weights: Mapping[str, QuantizedWeight]
) -> dict[str, AdaptedLinear]:
    """Replace every linear layer by an `AdaptedLinear`; return those inside the blocks.

    *weights* are those of quantized layers, by name.
    """
    linears = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
    kinds = {name: kind_of_product(weight) for name, weight in weights.items()}
    adapted: dict[str, AdaptedLinear] = {}
    for together in read_together(linears):
        # Layers of unlike numbers have no product in common, for example where a checkpoint left one out.
        for names in [list(group) for _, group in groupby(together, key=kinds.get)]:
            members = [linears[name] for name in names]
            if names[0] in weights:
                product = product_of_weights([weights[name] for name in names], [each.bias for each in members])
            else:
                product = product_of(members)
            shared = SharedProduct(product, [each.out_features for each in members])
            for index, name in enumerate(names):
                adapted[name] = AdaptedLinear(linears[name], shared.part(index), segments)
    for name, layer in adapted.items():
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer)
    return {name: layer for name, layer in adapted.items() if layer is not model.get_output_embeddings()}


def read_together(names: Iterable[str]) -> list[list[str]]:
    """Group the names of layers that one parent gives the same rows; the others are alone."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name in names:
        parent, _, child = name.rpartition(".")
        first = next((members[0] for members in READ_TOGETHER if child in members), child)
        groups.setdefault((parent, first), []).append(name)
    return list(groups.values())


def end_tokens_of(model: Any, tokenizer: Any) -> frozenset[int]:
    """Return the tokens that end an answer: those of the generation settings and the tokenizer's own."""
    configured = model.generation_config.eos_token_id
    ends = configured if isinstance(configured, list) else [configured]
    return frozenset(token for token in (*ends, tokenizer.eos_token_id) if token is not None)


class ModelRunner:
    """Runs planned steps; used by one thread."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._model = loaded.model
        self._segments = loaded.segments
        self._cache = SlotCache(loaded.cache_shape)

    @torch.inference_mode()
    def step(self, plan: StepPlan, gives_way: Callable[[], bool]) -> tuple[list[Row], Tensor]:
        """Run *plan*: the rows whose next token follows, and their logits, [rows, vocabulary].

        Raises `StepAbandoned` once *gives_way* asks for it; the next try writes again what stood in slots by then.
        """
        for copy in plan.copies:
            self._cache.copy_prefix(copy.source, copy.target, copy.length)
        rows = (*plan.decodes, *plan.prompts)
        ends = list(running_ends(rows))
        self._segments.current = tuple(segments_of(rows, ends))
        wanted = [index for index, row in enumerate(rows) if row.is_last]
        kept = [ends[index] - 1 for index in wanted]
        for row, end in zip(rows, ends, strict=True):
            kept += range(end - row.length, end - row.length + len(row.foretold))
        tokens = [token for row in rows for token in row.sequence.tokens[row.start : row.start + row.length]]
        positions = torch.tensor([place for row in rows for place in range(row.start, row.start + row.length)])
        answer = self._model(
            input_ids=torch.tensor([tokens]),
            position_ids=positions[None],
            use_cache=False,
            # If no row ends its prompt, one position stands in; the result leaves its logits out.
            logits_to_keep=torch.tensor(kept or [0]),
            plan=self._attention_plan(plan, rows, ends, positions, gives_way),
        )
        note_scores(rows, answer.logits[0, len(wanted) :])
        return [rows[index] for index in wanted], answer.logits[0, : len(wanted)]

    def _attention_plan(
        self,
        plan: StepPlan,
        rows: Sequence[Row],
        ends: Sequence[int],
        positions: Tensor,
        gives_way: Callable[[], bool],
    ) -> AttentionPlan:
        slots = torch.tensor([row.sequence.slot for row in rows for _ in range(row.length)])
        decode = None
        if plan.decodes:
            decode = plan_decode([row.sequence.slot for row in plan.decodes], [row.start + 1 for row in plan.decodes])
        starts = [end - row.length for end, row in zip(ends, rows, strict=True)][len(plan.decodes) :]
        prompts = [
            plan_prompt(start, row.sequence.slot, row.start, row.length)
            for start, row in zip(starts, plan.prompts, strict=True)
        ]
        written = self._cache.flat_index(slots, positions)
        return AttentionPlan(
            cache=self._cache, written=written, decode=decode, prompts=tuple(prompts), gives_way=gives_way
        )


def note_scores(rows: Sequence[Row], logits: Tensor) -> None:
    """Hand the logits that foretell tokens of prompts to those who want them, in the order of the rows."""
    for row in rows:
        if (scores := row.sequence.scores) is not None:
            count = len(row.foretold)
            scores.note(row.foretold, logits[:count])
            logits = logits[count:]


def running_ends(rows: Sequence[Row]) -> Iterator[int]:
    """Return where each row ends in the flat step."""
    end = 0
    for row in rows:
        end += row.length
        yield end


def segments_of(rows: Sequence[Row], ends: Sequence[int]) -> Iterator[Segment]:
    """Return neighbouring rows of one adapter as one segment; none for the base model."""
    paired = zip(rows, ends, strict=True)
    for adapter, group in groupby(paired, key=lambda pair: pair[0].sequence.adapter):
        members = list(group)
        if adapter:
            yield Segment(adapter, members[0][1] - members[0][0].length, members[-1][1])
