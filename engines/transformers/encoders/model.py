"""A model that embeds or ranks, ready to run: one forward pass over texts of any lengths."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, normalizers
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from engines.base_task import ENCODERS, BaseTask
from engines.transformers.encoders.folder import DenseLayer, EncoderFolder, read_folder
from engines.transformers.encoders.pooling import pooled
from engines.transformers.encoders.waiting import TokenRow
from engines.transformers.errors import UnsupportedModel
from engines.transformers.linear import product_of

DECODERS: Final = frozenset({"llama", "mistral", "qwen2", "qwen3"})
"""Values of `model_type` of models that read in one direction, which embed where their folder has modules for it."""
_MOST_POSITIONS: Final = 1 << 20
"""Above every real limit: tokenizers without one name 10^30."""
_TOLERANCE: Final = 1e-3
"""Most that a text's vector may change with its neighbours in a pass; measured 1e-6 at most, float32's rounding."""
_PROBE: Final = (3, 9)
"""Tokens of the two texts by which a model proves itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedEncoder:
    """A model in memory, with its tokenizer and sizes."""

    folder: EncoderFolder
    model: nn.Module
    layers: tuple[Callable[[Tensor], Tensor], ...]
    """Layers behind the pooling."""
    codec: Tokenizer
    """Adds special tokens, cuts and pads nothing."""
    pad: int
    takes_types: bool
    takes_cache: bool
    vocabulary: int
    context: int
    """Most tokens of a text."""
    width: int
    """Numbers of a vector; 1 for a score."""


def load_encoder(folder: Path, max_context: int) -> LoadedEncoder:
    """Read the model in *folder* in float32 and have it prove itself; `UnsupportedModel`."""
    described = read_folder(folder)
    kind = AutoModelForSequenceClassification if described.task is BaseTask.RANK else AutoModel
    try:
        # A folder whose model is code of its own would otherwise ask on the terminal whether to run that.
        model, loading = kind.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, output_loading_info=True, trust_remote_code=False
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as exc:
        raise UnsupportedModel(f"{folder}: {exc}") from exc
    _check_config(described, model.config)
    # A pooler is read by none of our poolings; every other weight that is absent would be random.
    absent = sorted(name for name in loading["missing_keys"] if not name.startswith("pooler."))
    if absent:
        raise UnsupportedModel(f"{folder}: the weights lack {len(absent)} tensors, such as {absent[0]}")
    if not tokenizer.is_fast:
        raise UnsupportedModel(f"{folder}: it has no tokenizer.json")
    config, taken = model.config, signature(model.forward).parameters
    layers = tuple(_dense(layer) for layer in described.dense)
    pack_layers(model)
    loaded = LoadedEncoder(
        folder=described,
        model=model.eval(),
        layers=layers,
        codec=_codec(tokenizer, described),
        pad=next((pad for pad in (tokenizer.pad_token_id, config.pad_token_id) if pad is not None), 0),
        takes_types="token_type_ids" in taken and "token_type_ids" in tokenizer.model_input_names,
        takes_cache="use_cache" in taken,
        vocabulary=config.vocab_size,
        context=_context(described, config, tokenizer, max_context),
        width=1,
    )
    return _proven(loaded)


class EncoderRunner:
    """Runs passes; used by one thread."""

    def __init__(self, loaded: LoadedEncoder) -> None:
        self._loaded = loaded
        self._ranks = loaded.folder.task is BaseTask.RANK

    @torch.inference_mode()
    def run(self, rows: Sequence[TokenRow]) -> Tensor:
        """Return the vectors of *rows*, or their scores: [rows, width]."""
        loaded = self._loaded
        lengths = torch.tensor([len(row.ids) for row in rows])
        longest = int(lengths.max())
        inputs: dict[str, Any] = {"input_ids": _padded([row.ids for row in rows], longest, loaded.pad)}
        # Without padding there is nothing to mask, and attention takes its quickest way.
        if int(lengths.min()) < longest:
            inputs["attention_mask"] = (torch.arange(longest)[None] < lengths[:, None]).long()
        if loaded.takes_types:
            inputs["token_type_ids"] = _padded([row.types or [0] * len(row.ids) for row in rows], longest, 0)
        if loaded.takes_cache:
            inputs["use_cache"] = False
        answer = loaded.model(**inputs)
        return self._scores(answer.logits) if self._ranks else self._vectors(answer.last_hidden_state, lengths)

    def _scores(self, logits: Tensor) -> Tensor:
        return logits.sigmoid() if self._loaded.folder.score == "sigmoid" else logits

    def _vectors(self, states: Tensor, lengths: Tensor) -> Tensor:
        vectors = pooled(states, lengths, self._loaded.folder.poolings)
        for layer in self._loaded.layers:
            vectors = layer(vectors)
        return nn.functional.normalize(vectors, dim=-1) if self._loaded.folder.normalizes else vectors


class PackedLinear(nn.Module):
    """A linear layer with its weights in oneDNN's own layout."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features = linear.in_features
        self.out_features = linear.out_features
        self._product = product_of([linear])

    def forward(self, rows: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        return self._product(rows)


def pack_layers(model: nn.Module) -> None:
    """Replace every linear layer of *model* by a `PackedLinear`."""
    linears = [name for name, layer in model.named_modules() if type(layer) is nn.Linear]
    for name in linears:
        parent, _, child = name.rpartition(".")
        owner = model.get_submodule(parent)
        setattr(owner, child, PackedLinear(owner.get_submodule(child)))  # type: ignore[arg-type]  # asked for above


def _check_config(folder: EncoderFolder, config: Any) -> None:
    ranks = folder.task is BaseTask.RANK
    known = ENCODERS if ranks else ENCODERS | DECODERS
    if config.model_type not in known:
        what = "ranks" if ranks else "embeds"
        raise UnsupportedModel(
            f"{folder.path}: a {config.model_type} that {what} is not served, only {', '.join(sorted(known))}"
        )
    if ranks and config.num_labels != 1:
        raise UnsupportedModel(f"{folder.path}: a model that ranks has one label, this one has {config.num_labels}")


def _proven(loaded: LoadedEncoder) -> LoadedEncoder:
    """Return the model with its width, once a text gets the same finite answer alone as beside a longer one.

    A model that ignores the mask, or whose weights are not numbers, would answer every request wrongly and in silence.
    """
    runner = EncoderRunner(loaded)
    usual = min(loaded.vocabulary - 1, 5)
    short, long = (TokenRow([usual] * min(length, loaded.context)) for length in _PROBE)
    alone, beside = runner.run([short])[0], runner.run([short, long])[0]
    if not bool(alone.isfinite().all()):
        raise UnsupportedModel(f"{loaded.folder.path}: the model answers with numbers that are not finite")
    if float((alone - beside).abs().max()) > _TOLERANCE * max(1.0, float(alone.abs().max())):
        raise UnsupportedModel(f"{loaded.folder.path}: the model's answer to a text changes with its neighbours")
    fields = {name: getattr(loaded, name) for name in loaded.__slots__}
    return LoadedEncoder(**fields | {"width": len(alone)})


def _dense(layer: DenseLayer) -> Callable[[Tensor], Tensor]:
    tensors: Mapping[str, Tensor] = load_file(layer.folder / "model.safetensors")
    try:
        weight = tensors["linear.weight"].float()
    except KeyError as exc:
        raise UnsupportedModel(f"{layer.folder}/model.safetensors has no linear.weight") from exc
    bias = tensors["linear.bias"].float() if "linear.bias" in tensors else None
    activation: nn.Module = vars(nn)[layer.activation]()
    return lambda vectors: activation(nn.functional.linear(vectors, weight, bias))


def _codec(tokenizer: Any, folder: EncoderFolder) -> Tokenizer:
    """Return the fast tokenizer without its file's rules for cutting and padding, which requests decide."""
    codec: Tokenizer = tokenizer.backend_tokenizer
    codec.no_truncation()
    codec.no_padding()
    if folder.lowers_case:
        kept = [] if codec.normalizer is None else [codec.normalizer]
        codec.normalizer = normalizers.Sequence([normalizers.Lowercase(), *kept])
    return codec


def _context(folder: EncoderFolder, config: Any, tokenizer: Any, max_context: int) -> int:
    positions = config.to_dict().get("max_position_embeddings") or _MOST_POSITIONS
    # RoBERTa and its kin begin to count behind the number of the padding token.
    if "roberta" in config.model_type or config.model_type in {"camembert", "mpnet"}:
        positions -= config.pad_token_id + 1
    return int(min(max_context, positions, folder.longest or min(tokenizer.model_max_length, _MOST_POSITIONS)))


def _padded(rows: Sequence[list[int]], longest: int, pad: int) -> Tensor:
    return torch.tensor([row + [pad] * (longest - len(row)) for row in rows])
