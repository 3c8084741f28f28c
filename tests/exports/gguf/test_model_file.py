"""Models as GGUF files, read back by transformers and by the library."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from exports.errors import NotExportable
from exports.gguf.model_file import GGUF_TYPES, GgufSummary, write_gguf
from exports.gguf.tokenizer import CONTROL, UNUSED
from registry.publishing.tensor_files import read_tensors
from tests.exports.gguf.tiny_models import KINDS, SIZES, save_tiny

ABOUT = {"license": "apache-2.0"}
TEXT = "hello wörld  3 33\n<|im_end|>"


def written(folder: Path, kind: Any = "f32") -> tuple[Path, GgufSummary]:
    target = folder.parent / f"{kind}.gguf"
    return target, write_gguf(folder, target, kind, name="tiny", about=ABOUT)


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_reads_the_same_model_from_the_file(kind: str, tmp_path: Path) -> None:
    model = save_tiny(tmp_path / "model", kind)
    target, _ = written(tmp_path / "model")

    place = {"pretrained_model_name_or_path": tmp_path, "gguf_file": target.name}
    quantization = GgufConfig(gguf_file=target.name, dequantize=True)
    again = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32, quantization_config=quantization).eval()
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        difference = (model(ids).logits - again(ids).logits).abs().max()
    tokens = [
        AutoTokenizer.from_pretrained(**each)(TEXT).input_ids
        for each in (place, {"pretrained_model_name_or_path": tmp_path / "model"})
    ]

    # Only the order of sums may differ, by how the libraries lay out the same matrices.
    assert float(difference) < 1e-4
    assert tokens[0] == tokens[1]


def read_back(path: Path) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    tensors = gguf.GGUFReader(path).tensors
    return {each.name: gguf.quants.dequantize(each.data, each.tensor_type) for each in tensors}


@pytest.mark.parametrize("kind", GGUF_TYPES)
def test_each_type_keeps_values_within_its_step_and_the_file_says_which_it_is(kind: str, tmp_path: Path) -> None:
    save_tiny(tmp_path / "model", "qwen2")
    target, summary = written(tmp_path / "model", kind)
    name = "model.layers.0.mlp.up_proj.weight"
    values = next(bits for found, _, bits in read_tensors(tmp_path / "model" / "model.safetensors") if found == name)
    stored = read_back(target)["blk.0.ffn_up.weight"]

    # A block of 32 values of up to 1 has this many levels for each sign.
    levels = {"q8_0": 127, "q5_0": 16, "q5_1": 15.5, "q4_0": 8, "q4_1": 7.5}.get(kind, 128)
    assert np.abs(stored - values).max() <= np.abs(values).max() / levels * 1.01
    assert summary.stored[kind] >= (5 if kind == "f32" else 14)
    assert summary.bits_per_weight < {"f32": 32.1, "f16": 16.4, "bf16": 16.4}.get(kind, 9.0)


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    save_tiny(tmp_path / "model", "llama")
    first = written(tmp_path / "model", "q8_0")[0].read_bytes()
    assert written(tmp_path / "model", "q8_0")[0].read_bytes() == first


def test_ids_beyond_the_vocabulary_are_unused_tokens(tmp_path: Path) -> None:
    save_tiny(tmp_path / "model", "llama", vocab_size=SIZES["vocab_size"] + 2)
    reader = gguf.GGUFReader(written(tmp_path / "model")[0])
    tokens, kinds = (reader.get_field(f"tokenizer.ggml.{name}").contents() for name in ("tokens", "token_type"))
    assert (tokens[-2:], kinds[-2:], kinds[0]) == (["[PAD262]", "[PAD263]"], [UNUSED, UNUSED], CONTROL)


def test_rotary_frequencies_that_llama_3_scales_are_a_tensor(tmp_path: Path) -> None:
    rope = {
        "rope_type": "llama3",
        "rope_theta": 10000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    model = save_tiny(tmp_path / "model", "llama", rope_parameters=rope)
    divisors = read_back(written(tmp_path / "model")[0])["rope_freqs.weight"]
    plain = 10000.0 ** -(np.arange(0, 16, 2) / 16)
    scaled = model.model.rotary_emb.inv_freq.numpy()
    assert np.allclose(plain / divisors, scaled, rtol=1e-5)


@pytest.mark.parametrize(
    ("file", "changes", "reason"),
    [
        ("config.json", {"model_type": "gemma3"}, "models of the kind 'gemma3' are not converted, only llama"),
        ("config.json", {"quantization_config": {}}, "quantized already"),
        ("config.json", {"use_sliding_window": True}, "use_sliding_window"),
        ("config.json", {"rope_parameters": {"rope_type": "longrope"}}, "rope_type 'longrope' is not converted"),
        ("config.json", {"vocab_size": 7}, "the model has 7 tokens"),
        ("tokenizer.json", {"pre_tokenizer": {"type": "Whitespace"}}, "neither is byte-level BPE nor"),
        ("tokenizer.json", {"model": {"type": "Unigram"}}, "type 'Unigram' are not converted"),
    ],
)
def test_what_llama_cpp_would_read_otherwise_is_refused_by_name(
    file: str, changes: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    save_tiny(tmp_path / "model", "llama")
    path = tmp_path / "model" / file
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(NotExportable, match=reason):
        written(tmp_path / "model")


def test_values_that_half_precision_does_not_hold_are_refused(tmp_path: Path) -> None:
    model = save_tiny(tmp_path / "model", "llama")
    model.lm_head.weight.data[0, 0] = 1e6
    model.save_pretrained(tmp_path / "model")
    with pytest.raises(NotExportable, match=r"lm_head\.weight has values beyond those of float16; take bf16"):
        written(tmp_path / "model", "f16")
    written(tmp_path / "model", "bf16")
