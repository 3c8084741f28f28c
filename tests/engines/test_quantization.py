"""A checkpoint's configuration tells its scheme; the rows of the catalog tell who serves it where, and why not."""

from __future__ import annotations

from typing import Any

import pytest

from engines.catalog import ENGINES
from engines.kinds import Vendor
from engines.quantization import Quantization, Scheme, quantization_by
from engines.quantized_support import Silicon, why_not_served
from tests.engines.quantized_folder import FORMS, group_config

SCHEMES = {"gptq": "w4a16", "awq": "w4a16", "w4a16-asymmetric": "w4a16", "w4a16-shuffled": "w4a16"}


def found(fields: dict[str, Any]) -> Quantization:
    read = quantization_by({"quantization_config": fields})
    assert read is not None
    return read


@pytest.mark.parametrize("form", FORMS)
def test_the_schemes_of_all_formats_are_told(form: str) -> None:
    read = found(FORMS[form][1])
    assert (read.scheme, read.oddity) == (SCHEMES.get(form, form), "")


def test_a_full_checkpoint_has_no_quantization() -> None:
    assert quantization_by({"model_type": "llama"}) is None


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"quant_method": "gptq", "bits": 3}, "gptq with 3 bits"),
        ({"quant_method": "gptq", "bits": 4, "checkpoint_format": "marlin"}, "gptq in the layout 'marlin'"),
        ({"quant_method": "awq", "bits": 4, "version": "gemv"}, "awq in the layout 'gemv'"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "other weights (bitsandbytes)"),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8 with weight_block_size"),
        (group_config(4, "float"), "4-bit float weights and full activations"),
        (group_config(8) | {"transform_config": {"config_groups": {"R1": {}}}}, "with transform_config"),
        (group_config(8) | {"config_groups": {}}, "with no config_groups"),
    ],
)
def test_what_no_plain_scheme_has_is_named(fields: dict[str, Any], words: str) -> None:
    why = why_not_served("transformers", ENGINES["transformers"].quantized, found(fields), Silicon())
    assert why is not None
    assert words in why


def test_activations_of_a_fixed_scale_are_named() -> None:
    fields = group_config(8, rounds_inputs=True)
    fields["config_groups"]["group_0"]["input_activations"]["dynamic"] = False
    assert "input_activations.dynamic is false" in found(fields).label


CPU, OLD, HOPPER = Silicon(), Silicon(vendor=Vendor.NVIDIA, capability=(7, 5)), Silicon(vendor=Vendor.NVIDIA)
MI250 = Silicon(vendor=Vendor.AMD, architecture="gfx90a")


@pytest.mark.parametrize(
    ("kind", "form", "silicon", "reason"),
    [
        ("transformers", "w8a8-int8", CPU, None),
        ("transformers", "awq", CPU, None),
        ("vllm", "w8a8-int8", CPU, None),
        ("vllm", "w4a16", CPU, "the first request ends the server"),
        ("sglang", "w8a8-int8", CPU, "need AMX"),
        ("lmdeploy", "w4a16", CPU, "no quantized products"),
        ("vllm", "w4a16", OLD, None),
        ("sglang", "w8a8-int8", OLD, "compute capability 7.5, and it needs 8.0"),
        ("lmdeploy", "awq", OLD, None),
        ("lmdeploy", "w8a8-int8", HOPPER, "only w4a16"),
        ("vllm", "fp8", MI250, "gfx90a, and it needs gfx942 or gfx950"),
        ("sglang", "gptq", MI250, "sglang on AMD does not serve w4a16 weights (gptq), only fp8, w4a16"),
        ("transformers", "w4a16", HOPPER, "only full checkpoints"),
    ],
)
def test_who_serves_a_scheme_where(kind: str, form: str, silicon: Silicon, reason: str | None) -> None:
    why = why_not_served(kind, ENGINES[kind].quantized, found(FORMS[form][1]), silicon)
    assert (why is None) if reason is None else (why is not None and reason in why)


def test_every_kind_says_for_every_scheme_on_a_cpu_whether_it_serves_it() -> None:
    for name, kind in ENGINES.items():
        for scheme in Scheme:
            read = Quantization(method="compressed-tensors", scheme=scheme)
            why = why_not_served(name, kind.quantized, read, CPU)
            assert why is None or why.startswith(f"{name} on a CPU does not serve {scheme} weights")
