"""Write a whole model as one GGUF file, a tensor at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

import gguf
import numpy as np
import numpy.typing as npt

from exports.errors import NotExportable
from exports.gguf.families import ModelSizes, read_sizes, rope_factors
from exports.gguf.tokenizer import GgufTokenizer, read_tokenizer
from registry.publishing.adapter_weights import Matrix
from registry.publishing.checks import base_files
from registry.publishing.tensor_files import FLOATS, read_shapes, read_tensors

GgufType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"]
"""How the matrices of a file are stored. Vectors are always float32."""
GGUF_TYPES: Final[tuple[GgufType, ...]] = get_args(GgufType)
FILE_TYPES: Final[Mapping[GgufType, gguf.LlamaFileType]] = {
    "f32": gguf.LlamaFileType.ALL_F32,
    "f16": gguf.LlamaFileType.MOSTLY_F16,
    "bf16": gguf.LlamaFileType.MOSTLY_BF16,
    "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
    "q5_1": gguf.LlamaFileType.MOSTLY_Q5_1,
    "q5_0": gguf.LlamaFileType.MOSTLY_Q5_0,
    "q4_1": gguf.LlamaFileType.MOSTLY_Q4_1,
    "q4_0": gguf.LlamaFileType.MOSTLY_Q4_0,
}
_STORED: Final[Mapping[str, gguf.GGMLQuantizationType]] = {
    name: gguf.GGMLQuantizationType[name.upper()] for name in GGUF_TYPES
}
_KEPT_FINER: Final = ("token_embd.weight", "output.weight")
"""The embedding and the head, which the smaller types store as `q8_0`: they change the answers most."""
_ROTATED: Final = re.compile(r"\.(?P<which>[qk])_proj\.(weight|bias|lora_B\.weight)$")
_ROWS_AT_ONCE: Final = 4096
_LARGEST_HALF: Final = 65504.0
"""The largest value of float16."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufSummary:
    """The figures of a GGUF file that was written."""

    architecture: str
    parameters: int
    tensor_bytes: int
    stored: Mapping[str, int]
    """Type -> number of tensors stored in it; more than one where rows do not fill the blocks of a type."""

    @property
    def bits_per_weight(self) -> float:
        """Mean size of a weight."""
        return self.tensor_bytes * 8 / self.parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tensor:
    """A tensor of the file, read when it is written."""

    name: str
    shape: tuple[int, ...]
    stored: gguf.GGMLQuantizationType
    source: Path | None
    """The safetensors file; None for the divisors of rotary frequencies."""
    source_name: str

    @property
    def size_bytes(self) -> int:
        block, block_bytes = gguf.GGML_QUANT_SIZES[self.stored]
        return int(np.prod(self.shape)) // int(block) * int(block_bytes)


def write_gguf(folder: Path, target: Path, kind: GgufType, *, name: str, about: Mapping[str, str]) -> GgufSummary:
    """Write the model in the Hugging Face *folder* to the new file *target*; the same inputs give the same bytes.

    *name* and *about* (`license`, `description`, ...) become `general.*` of the file. Raises `NotExportable`.
    """
    sizes = read_sizes(folder)
    tokenizer = read_tokenizer(folder, sizes.vocabulary)
    tensors = list(_tensors(folder, sizes, kind))
    writer = gguf.GGUFWriter(target, sizes.family.architecture)
    try:
        _add_facts(writer, sizes, FILE_TYPES[kind], {"name": name, **about})
        _add_tokenizer(writer, tokenizer)
        for tensor in tensors:
            # As bytes, whose last dimension the library turns into that of the blocks.
            row_bytes = tensor.size_bytes // int(np.prod(tensor.shape[:-1], dtype=np.int64))
            writer.add_tensor_info(
                tensor.name, (*tensor.shape[:-1], row_bytes), np.uint8, tensor.size_bytes, tensor.stored
            )
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor in tensors:
            writer.write_tensor_data(_data(tensor, sizes))
    finally:
        writer.close()
    return _summary(sizes, tensors)


def rotated_pairs(values: Floats, heads: int) -> Floats:
    """Return rows of a query or key matrix in the order in which llama.cpp rotates them: each with its neighbour."""
    halves = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(values.shape))


def as_llama(values: Floats, name: str, sizes: ModelSizes) -> Floats:
    """Return the tensor of this *name* of a Hugging Face model as the file stores it."""
    if sizes.family.pairs_rotary and (found := _ROTATED.search(name)):
        return rotated_pairs(values, sizes.heads if found["which"] == "q" else sizes.kv_heads)
    return values


def tensor_names(sizes: ModelSizes) -> gguf.TensorNameMap:
    """Return the map from the names of a Hugging Face model's tensors to those of the file."""
    arch = next(arch for arch, name in gguf.MODEL_ARCH_NAMES.items() if name == sizes.family.architecture)
    return gguf.get_tensor_name_map(arch, sizes.layers)


def _tensors(folder: Path, sizes: ModelSizes, kind: GgufType) -> Iterator[_Tensor]:
    names = tensor_names(sizes)
    if (divisors := rope_factors(sizes)) is not None:
        single = gguf.GGMLQuantizationType.F32
        yield _Tensor(name="rope_freqs.weight", shape=(len(divisors),), stored=single, source=None, source_name="")
    for path in sorted(each for each in base_files(folder) if each.is_file()):
        for source_name, shape in sorted(read_shapes([path], FLOATS).items()):
            if source_name == "lm_head.weight" and sizes.ties_embeddings:
                continue
            name = names.get_name(source_name, try_suffixes=(".weight", ".bias"))
            if name is None:
                raise NotExportable(f"GGUF: llama.cpp has no tensor for {source_name} of this model")
            stored = _stored_as(name, shape, kind)
            yield _Tensor(name=name, shape=shape, stored=stored, source=path, source_name=source_name)


def _stored_as(name: str, shape: Sequence[int], kind: GgufType) -> gguf.GGMLQuantizationType:
    if len(shape) == 1:
        return gguf.GGMLQuantizationType.F32
    finer = name in _KEPT_FINER and kind.startswith(("q4", "q5"))
    stored = _STORED["q8_0" if finer else kind]
    # As llama.cpp's own converter does: blocks are parts of rows.
    return stored if shape[-1] % gguf.GGML_QUANT_SIZES[stored][0] == 0 else gguf.GGMLQuantizationType.F16


def _data(tensor: _Tensor, sizes: ModelSizes) -> npt.NDArray[Any]:
    if tensor.source is None:
        return np.array(rope_factors(sizes), dtype=np.float32)
    dtype, bits = next((dtype, bits) for name, dtype, bits in read_tensors(tensor.source) if name == tensor.source_name)
    values = as_llama(Matrix(bits=bits, dtype=dtype).widened(), tensor.source_name, sizes)
    return quantized(values, tensor.stored, tensor.source_name)


def quantized(values: Floats, stored: gguf.GGMLQuantizationType, name: str) -> npt.NDArray[Any]:
    """Return *values* as *stored* has them; `NotExportable` for values that float16 does not hold."""
    if not np.isfinite(values).all():
        raise NotExportable(f"GGUF: {name} has values that are not finite")
    if stored == gguf.GGMLQuantizationType.F16 and np.abs(values).max(initial=0.0) > _LARGEST_HALF:
        raise NotExportable(f"GGUF: {name} has values beyond those of float16; take bf16 or f32")
    parts = [
        gguf.quants.quantize(values[at : at + _ROWS_AT_ONCE], stored) for at in range(0, len(values), _ROWS_AT_ONCE)
    ]
    return np.concatenate(parts)


def _add_facts(
    writer: gguf.GGUFWriter, sizes: ModelSizes, file_type: gguf.LlamaFileType, about: Mapping[str, str]
) -> None:
    for key, value in about.items():
        writer.add_string(f"general.{key}", value)
    writer.add_file_type(file_type)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_block_count(sizes.layers)
    writer.add_context_length(sizes.context)
    writer.add_embedding_length(sizes.hidden)
    writer.add_feed_forward_length(sizes.feed_forward)
    writer.add_head_count(sizes.heads)
    writer.add_head_count_kv(sizes.kv_heads)
    writer.add_key_length(sizes.head_dim)
    writer.add_value_length(sizes.head_dim)
    writer.add_layer_norm_rms_eps(sizes.norm_epsilon)
    writer.add_vocab_size(sizes.vocabulary)
    writer.add_rope_freq_base(sizes.rope_theta)
    writer.add_rope_dimension_count(sizes.head_dim)
    _add_rope_scaling(writer, sizes.rope)


def _add_rope_scaling(writer: gguf.GGUFWriter, rope: Mapping[str, Any]) -> None:
    # The divisors of `llama3` are a tensor of their own.
    if rope["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(float(rope["factor"]))
    elif rope["rope_type"] == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(float(rope["factor"]))
        writer.add_rope_scaling_orig_ctx_len(int(rope["original_max_position_embeddings"]))


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: GgufTokenizer) -> None:
    writer.add_tokenizer_model(tokenizer.model)
    writer.add_tokenizer_pre(tokenizer.pre)
    writer.add_token_list(list(tokenizer.tokens))
    writer.add_token_types(list(tokenizer.kinds))
    if tokenizer.scores is not None:
        writer.add_token_scores(list(tokenizer.scores))
    if tokenizer.merges:
        writer.add_token_merges(list(tokenizer.merges))
    add = {
        "bos": writer.add_bos_token_id,
        "eos": writer.add_eos_token_id,
        "unk": writer.add_unk_token_id,
        "pad": writer.add_pad_token_id,
    }
    for role, at in tokenizer.ids.items():
        add[role](at)
    writer.add_add_bos_token(tokenizer.adds_bos)
    writer.add_add_eos_token(tokenizer.adds_eos)
    if tokenizer.adds_space is not None:
        writer.add_add_space_prefix(tokenizer.adds_space)
    if tokenizer.template is not None:
        writer.add_chat_template(tokenizer.template)


def _summary(sizes: ModelSizes, tensors: Sequence[_Tensor]) -> GgufSummary:
    stored: dict[str, int] = {}
    for tensor in tensors:
        kind = tensor.stored.name.lower()
        stored[kind] = stored.get(kind, 0) + 1
    return GgufSummary(
        architecture=sizes.family.architecture,
        parameters=sum(int(np.prod(tensor.shape)) for tensor in tensors),
        tensor_bytes=sum(tensor.size_bytes for tensor in tensors),
        stored=stored,
    )
