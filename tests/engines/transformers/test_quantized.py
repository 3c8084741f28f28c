"""A quantized checkpoint computes what its numbers mean, in every format, with adapters on top."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig

from engines.transformers.errors import UnsupportedModel
from engines.transformers.model import load_model
from engines.transformers.quantized.checkpoint import load_quantized
from engines.transformers.quantized.products import int8_product, product_of_weights
from engines.transformers.quantized.weights import GroupedWeight, Int8Weight
from engines.transformers.sampling import PromptScores
from tests.engines.quantized_folder import FORMS, quantize_folder
from tests.engines.random_adapter import write_adapter
from tests.engines.transformers.test_model import Batch, attach, small_model

SMALL = LlamaConfig(
    vocab_size=512,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=128,
    tie_word_embeddings=True,
)
PROMPT = [5, 300, 17, 8, 99, 411, 2, 64]
CLOSE = 0.05
"""Nats: what rounding of activations may move a logprob of so small a model."""


def quantized(tmp_path: Path, tokenizer: Path, form: str, leave: str = "") -> tuple[Path, Path]:
    """The folder of a small model in *form*, and of the same model in float32."""
    source = small_model(tmp_path / "source", SMALL, tokenizer)
    quantize_folder(source, tmp_path / "quantized", form, tmp_path / "meant", leave)
    return tmp_path / "quantized", tmp_path / "meant"


def logprobs(folder: Path, adapter: Path | None = None) -> list[float]:
    """Those of the prompt's own tokens, by our engine."""
    loaded = load_model(folder, slots=4, max_context=64)
    if adapter is not None:
        attach(loaded, 1, adapter)
    scores = PromptScores.beginning(PROMPT, 0)
    batch = Batch(loaded, max_step_tokens=16)
    batch.add(PROMPT, adapter=0 if adapter is None else 1, limit=1, scores=scores)
    batch.run()
    return [entry.logprob for entry in scores.entries if entry.logprob is not None]


def expected(folder: Path, adapter: Path | None = None) -> list[float]:
    """The same by transformers and PEFT in float32."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter).eval()
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([PROMPT])).logits[0]
    found = torch.log_softmax(logits[:-1], -1)
    return [float(row[token]) for row, token in zip(found, PROMPT[1:], strict=True)]


@pytest.mark.parametrize("form", FORMS)
def test_the_numbers_of_every_format_mean_the_same_weights(tmp_path: Path, model_folder: Path, form: str) -> None:
    folder, meant = quantized(tmp_path, model_folder, form)
    _, weights = load_quantized(folder, "eager")
    whole = load_file(meant / "model.safetensors")
    assert len(weights) == 2 * 7
    for name, weight in weights.items():
        torch.testing.assert_close(weight.whole(), whole[f"{name}.weight"], atol=1e-6, rtol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("form", FORMS)
def test_a_quantized_model_answers_as_its_weights_in_float32(tmp_path: Path, model_folder: Path, form: str) -> None:
    folder, meant = quantized(tmp_path, model_folder, form)
    assert logprobs(folder) == pytest.approx(expected(meant), abs=CLOSE)


@pytest.mark.long
@pytest.mark.parametrize("form", ["w8a8-int8", "w4a16"])
def test_layers_that_were_left_out_are_computed_in_float32_beside_the_others(
    tmp_path: Path, model_folder: Path, form: str
) -> None:
    folder, meant = quantized(tmp_path, model_folder, form, leave="k_proj")
    assert logprobs(folder) == pytest.approx(expected(meant), abs=CLOSE)


@pytest.mark.long
@pytest.mark.parametrize("form", ["w8a8-int8", "w4a16-shuffled"])
def test_an_adapter_adds_to_quantized_layers_what_peft_adds(tmp_path: Path, model_folder: Path, form: str) -> None:
    folder, meant = quantized(tmp_path, model_folder, form)
    adapter = write_adapter(tmp_path / "adapter", meant, 1, strength=0.3)
    assert max(abs(a - b) for a, b in zip(expected(meant), expected(meant, adapter), strict=True)) > 4 * CLOSE
    assert logprobs(folder, adapter) == pytest.approx(expected(meant, adapter), abs=2 * CLOSE)


def test_a_row_of_an_int8_product_depends_on_no_other_row() -> None:
    torch.manual_seed(0)
    values = torch.randint(-127, 128, (48, 64), dtype=torch.int8)
    product = int8_product([Int8Weight(values=values, scales=torch.rand(48) / 100)], None)
    rows = torch.randn(1, 6, 64) * torch.tensor([1.0, 1e4, 1e-4, 3.0, 0.0, 1.0])[None, :, None]
    together = product(rows)
    for place in range(6):
        torch.testing.assert_close(together[:, place], product(rows[:, place : place + 1])[:, 0], rtol=1e-5, atol=1e-9)
    assert together.isfinite().all()
    assert float(together[:, 4].abs().max()) == 0.0


def test_the_largest_numbers_do_not_overflow_an_int8_product() -> None:
    # Products of the largest numbers, added in pairs in 16 bits, overflow on processors without VNNI.
    values = torch.full((16, 256), 127, dtype=torch.int8)
    product = int8_product([Int8Weight(values=values, scales=torch.full((16,), 0.01))], None)
    rows = torch.ones(1, 3, 256)
    rows[..., 0] = -1.0
    torch.testing.assert_close(product(rows), rows @ (values * 0.01).t(), rtol=2e-2, atol=0.0)


def test_an_int8_product_is_as_near_as_eight_bits_on_every_processor() -> None:
    torch.manual_seed(0)
    values = torch.randint(-127, 128, (48, 512), dtype=torch.int8)
    weight = Int8Weight(values=values, scales=torch.rand(48) / 100)
    rows = torch.randn(1, 6, 512)
    exact = rows @ weight.whole().t()
    # Half a step of 256 between the least and the largest of each row makes 0.8 % here, of 128 steps 1.6 %.
    assert float((int8_product([weight], None)(rows) - exact).norm() / exact.norm()) < 0.012


def test_four_bits_without_a_packed_operator_are_computed_in_float32() -> None:
    torch.manual_seed(0)
    values = torch.randint(0, 16, (7, 24), dtype=torch.uint8)
    weight = GroupedWeight(values=values, scales=torch.rand(7, 3), zeros=torch.full((7, 3), 8.0))
    rows, bias = torch.randn(1, 2, 24), torch.randn(7)
    torch.testing.assert_close(product_of_weights([weight], [bias])(rows), rows @ weight.whole().t() + bias)


def changed(folder: Path, **fields: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] |= fields
    (folder / "config.json").write_text(json.dumps(config))


def test_what_the_engine_does_not_compute_is_refused_by_name(tmp_path: Path, model_folder: Path) -> None:
    folder, _ = quantized(tmp_path, model_folder, "w8a8-int8")
    changed(folder, kv_cache_scheme={"num_bits": 8, "type": "float"})
    with pytest.raises(UnsupportedModel, match="kv_cache_scheme, only fp8, w4a16, w8a16, w8a8-int8"):
        load_model(folder, slots=1, max_context=64)
    changed(folder, quant_method="bitsandbytes")
    with pytest.raises(UnsupportedModel, match=r"other weights \(bitsandbytes\)"):
        load_model(folder, slots=1, max_context=64)


def test_a_checkpoint_with_a_tensor_too_few_or_too_many_names_it(tmp_path: Path, model_folder: Path) -> None:
    folder, _ = quantized(tmp_path, model_folder, "w8a8-int8")
    tensors = load_file(folder / "model.safetensors")
    gone = {name: each for name, each in tensors.items() if name != "model.norm.weight"}
    for found, name in ((gone, "model.norm.weight is missing"), (tensors | {"odd": torch.ones(1)}, "tensor odd")):
        save_file(found, folder / "model.safetensors")
        with pytest.raises(UnsupportedModel, match=name):
            load_model(folder, slots=1, max_context=64)
    scale = "model.layers.0.mlp.up_proj.weight_scale"
    save_file({name: each for name, each in tensors.items() if name != scale}, folder / "model.safetensors")
    with pytest.raises(UnsupportedModel, match=r"layer model\.layers\.0\.mlp\.up_proj: "):
        load_model(folder, slots=1, max_context=64)
