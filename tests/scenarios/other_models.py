"""Models that do not chat, made here: one that ranks and one that hears, tiny and with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    PreTrainedTokenizerFast,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)
from transformers.models.whisper.tokenization_whisper import LANGUAGES

PLACES: Final = 256
"""Longest text of the one that ranks, in bytes, and longest answer of the one that hears."""
BERT_TOKENS: Final = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
END: Final = "<|endoftext|>"
START: Final = "<|startoftranscript|>"
WHISPER_TOKENS: Final = (
    *(END, START),
    *(f"<|{language}|>" for language in LANGUAGES),
    *("<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"),
)
WHISPER_TIMES: Final = tuple(f"<|{number * 0.02:.2f}|>" for number in range(1501))
_SIZES: Final = {"layers": 2, "attention_heads": 2, "ffn_dim": 128}


def save_reranker(folder: Path) -> None:
    """Write a cross-encoder: one score for a pair of texts."""
    torch.manual_seed(0)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = _of_bytes([*BERT_TOKENS, *alphabet])
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, BERT_TOKENS.index(name)) for name in ("[CLS]", "[SEP]")],
    )
    names = dict(zip(("pad", "unk", "cls", "sep", "mask"), BERT_TOKENS, strict=True))
    PreTrainedTokenizerFast(
        tokenizer_object=core,
        model_max_length=PLACES,
        **{f"{kind}_token": token for kind, token in names.items()},
    ).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(BERT_TOKENS) + len(alphabet),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        max_position_embeddings=PLACES,
        num_labels=1,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    _add(folder / "config.json", position_embedding_type="absolute")  # as published ones say, and SGLang reads


def save_hearer(folder: Path) -> None:
    """Write a Whisper."""
    torch.manual_seed(0)
    core = _of_bytes(sorted(pre_tokenizers.ByteLevel.alphabet()))
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in WHISPER_TOKENS])
    core.add_tokens([AddedToken(name, normalized=False) for name in WHISPER_TIMES])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token=END, eos_token=END, unk_token=END)
    tokenizer.save_pretrained(folder)
    _add(folder / "tokenizer_config.json", tokenizer_class="WhisperTokenizer")
    end, start = tokenizer.convert_tokens_to_ids([END, START])
    config = WhisperConfig(
        vocab_size=len(tokenizer),
        d_model=64,
        **{f"{part}_{field}": size for part in ("encoder", "decoder") for field, size in _SIZES.items()},
        max_target_positions=PLACES,
        decoder_start_token_id=start,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
    )
    WhisperForConditionalGeneration(config).save_pretrained(folder)
    WhisperFeatureExtractor().save_pretrained(folder)
    _add(folder / "preprocessor_config.json", processor_class="WhisperProcessor")


def _of_bytes(vocabulary: list[str]) -> Tokenizer:
    core = Tokenizer(models.BPE(vocab={token: at for at, token in enumerate(vocabulary)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return core


def _add(path: Path, **fields: str) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
