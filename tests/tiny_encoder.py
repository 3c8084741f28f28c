"""Encoders that are made here: tiny, with random weights, reading bytes as tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import CONFIG_MAPPING, AutoModel, AutoModelForSequenceClassification, PreTrainedTokenizerFast

SPECIAL: Final = ("[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]")
PLACES: Final = 96
_SIZES: Final = {
    "vocab_size": len(SPECIAL) + 256,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": PLACES,
    "pad_token_id": 1,
}
"""Sizes under the names that most kinds have; a padding token that is not 0, from which RoBERTa counts positions."""
_OTHER_NAMES: Final = {
    "distilbert": {"dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 2},
    "albert": {"embedding_size": 32},
    "electra": {"embedding_size": 32},
    "eurobert": {"num_key_value_heads": 2, "head_dim": 16},
    "modernbert": {"global_attn_every_n_layers": 2, "local_attention": 16, "cls_token_id": 0, "sep_token_id": 2},
    "qwen3": {"num_key_value_heads": 2, "head_dim": 16},
}


def save_encoder(folder: Path, kind: str = "bert", **modules: Any) -> Path:
    """Write an encoder of this `model_type`; *modules*: fields of the pooling, `normalizes`, `longest`, `prompts`."""
    torch.manual_seed(0)
    save_tokenizer(folder)
    AutoModel.from_config(config_of(kind)).save_pretrained(folder)
    if modules:
        save_modules(folder, **modules)
    return folder


def save_reranker(folder: Path, kind: str = "bert", labels: int = 1) -> Path:
    """Write a cross-encoder of this `model_type`, which gives a pair of texts a score."""
    torch.manual_seed(0)
    save_tokenizer(folder)
    AutoModelForSequenceClassification.from_config(config_of(kind, num_labels=labels)).save_pretrained(folder)
    return folder


def config_of(kind: str, **fields: Any) -> Any:
    """The configuration of a tiny model."""
    known = CONFIG_MAPPING[kind]()
    sizes = {name: size for name, size in _SIZES.items() if hasattr(known, name)}
    return CONFIG_MAPPING[kind](**sizes | _OTHER_NAMES.get(kind, {}) | fields)


def save_tokenizer(folder: Path) -> None:
    """Write a tokenizer of bytes that sets texts and pairs of texts between special tokens."""
    names = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    core = Tokenizer(models.BPE(vocab={name: number for number, name in enumerate(names)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, SPECIAL.index(name)) for name in ("[CLS]", "[SEP]")],
    )
    core.enable_padding(length=50)  # as published ones do, which a server must not follow
    core.enable_truncation(40)
    tokens = {f"{name[1:-1].lower()}_token": name for name in SPECIAL}
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    fast = PreTrainedTokenizerFast(tokenizer_object=core, model_max_length=PLACES, model_input_names=inputs, **tokens)
    fast.save_pretrained(folder)


def save_modules(folder: Path, **fields: Any) -> None:
    """Write what sentence-transformers writes beside a model."""
    normalizes, longest, prompts = (
        fields.pop("normalizes", False),
        fields.pop("longest", None),
        fields.pop("prompts", {}),
    )
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), *([("2_Normalize", "Normalize")] if normalizes else [])]
    listed = [
        {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for place, (path, kind) in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 32, **fields}))
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": prompts}))
    if longest is not None:
        (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": longest}))
