"""Which engine serves what where: a table of machines and models, and the rules one by one.

The sums behind the table, in GB. Usable is 0.9 of a device, less 2.0 for computing; the rest is weights, adapters of
rank 64 (`test_memory` has the sums of one), and keys and values. Full is how many sequences of 8,192 tokens those hold.

- T4: 15,360 MiB = 16.11; x 0.9 - 2 = 12.50. 0.5B: 12.50 - 0.99 - 8 x 0.07 = 10.94; a token takes 12,288 bytes: 108
  full. 7B: 15.23 of weights are above 12.50 by themselves.
- A10: 23,028 MiB = 24.15; 19.73. 7B: 19.73 - 15.23 - 8 x 0.323 = 1.92; 57,344 bytes a token: 33,508 tokens, 4 full.
- A100-40: 42.95; 36.65. 7B: 36.65 - 15.23 - 2.58 = 18.84: 40 full. 32B: 65.53 do not fit.
- A100-80: 85.90; 75.31. 32B: 75.31 - 65.53 = 9.78; an adapter takes 1.07 and a sequence 8,192 x 262,144 = 2.15. 8
  adapters leave 1.2, not one sequence; 4 leave 5.49: 2 full. Two devices: 75.31 - 32.76 - 5.47 = 37.08; 131,072 a
  token: 34 full. 72B: 72.71 on each of two: 2.6 left, and an adapter takes 1.14 on each; one leaves 1.47; 163,840 a
  token: 1 full.
- H100: 81,559 MiB = 85.52; 74.97. 72B on one: even in fp8, 75.2, above. On four of eight: 36.35 + 8 x 0.86 = 43.24,
  leaving 31.72; 81,920 a token: 47 full. On two it fits as tightly as above, and four give room.
- MI300X: 196,592 MiB = 206.14; 183.53. 72B: 183.53 - 145.41 - 8 x 1.68 = 24.64; 327,680 a token: 9 full.
- 910B: 65,536 MiB = 68.72; 59.85. 7B without adapters: 44.62: 94 full. Mixture: 61.06 do not fit; half on each of two.
- Mixture on 80 GB: 61.06 + 6.75 for one adapter of all experts leave 7.49; 98,304 a token: 9 full, 8 on the H100.
- A CPU: 0.8 of memory, less 2.0; float32, every sequence of 2,048 tokens in full, the tied embedding twice.
  0.5B: 4 x (0.494 + 0.136) = 2.52. 32B: 202.8 - 131.06 - 16 x 2.15 = 37.4, of which 16 sequences take 17.18.
  72B: 290.8 are above 202.8. Laptop: 24 x 0.8 - 2 = 17.2; 7B takes 30.5.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from engines.catalog import ENGINES, ENVIRONMENTS, build_engine
from engines.errors import DoesNotFit
from engines.hardware.choice import choose, engine_defaults
from engines.hardware.machine import GB, Device
from engines.hardware.shape import ModelShape, read_shape
from engines.hardware.wishes import Choice, Wishes
from engines.kinds import Precision, Vendor, Workload
from engines.quantization import COMPRESSED, Quantization, Scheme
from engines.settings import EngineSettings
from tests.engines.hardware.machines import (
    A100_40,
    AMX,
    ENCODER,
    H100,
    HALF_B,
    MACHINES,
    MIXTURE,
    OLD,
    SEVEN_B,
    SEVEN_B_AWQ,
    SEVENTY_TWO_B,
    SEVENTY_TWO_B_AWQ,
    THIRTY_TWO_B,
    machine,
    nvidia,
)

ANYTHING = Wishes()

FITS = [
    # machine, model, engine, devices that share, context, batch, adapters
    ("T4", HALF_B, "vllm nvidia fp16", 1, 8192, 256, 8),
    ("T4", SEVEN_B_AWQ, "vllm nvidia int4", 1, 8192, 36, 8),
    ("A10", HALF_B, "vllm nvidia bf16", 1, 8192, 256, 8),
    ("A10", SEVEN_B, "vllm nvidia bf16", 1, 8192, 16, 8),
    ("A100-40", SEVEN_B, "vllm nvidia bf16", 1, 8192, 160, 8),
    ("A100-80", SEVEN_B, "vllm nvidia bf16", 1, 8192, 256, 8),
    ("A100-80", THIRTY_TWO_B, "vllm nvidia bf16", 1, 8192, 8, 4),
    ("A100-80", MIXTURE, "vllm nvidia bf16", 1, 8192, 36, 1),
    ("A100-80", SEVENTY_TWO_B_AWQ, "vllm nvidia int4", 1, 8192, 28, 8),
    ("2xA100-80", THIRTY_TWO_B, "vllm nvidia bf16", 2, 8192, 136, 8),
    ("2xA100-80", SEVENTY_TWO_B, "vllm nvidia bf16", 2, 8192, 4, 1),
    ("H100", THIRTY_TWO_B, "vllm nvidia bf16", 1, 8192, 8, 4),
    ("H100", MIXTURE, "vllm nvidia bf16", 1, 8192, 32, 1),
    ("8xH100", SEVEN_B, "vllm nvidia bf16", 1, 8192, 256, 8),
    ("8xH100", SEVENTY_TWO_B, "vllm nvidia bf16", 4, 8192, 188, 8),
    ("8xH100", MIXTURE, "vllm nvidia bf16", 4, 8192, 256, 8),
    ("MI300X", SEVEN_B, "vllm amd bf16", 1, 8192, 256, 8),
    ("MI300X", SEVENTY_TWO_B, "vllm amd bf16", 1, 8192, 36, 8),
    ("MI300X", MIXTURE, "vllm amd bf16", 1, 8192, 256, 8),
    ("910B", HALF_B, "lmdeploy ascend bf16", 1, 8192, 256, 0),
    ("910B", SEVEN_B, "lmdeploy ascend bf16", 1, 8192, 256, 0),
    ("8x910B", SEVENTY_TWO_B, "lmdeploy ascend bf16", 4, 8192, 140, 0),
    ("8x910B", MIXTURE, "lmdeploy ascend bf16", 2, 8192, 256, 0),
    ("Apple", SEVEN_B, "transformers cpu fp32", 1, 2048, 16, 16),
    ("CPU", HALF_B, "transformers cpu fp32", 1, 2048, 16, 16),
    ("CPU", THIRTY_TWO_B, "transformers cpu fp32", 1, 2048, 16, 16),
    ("CPU", MIXTURE, "vllm cpu fp32", 1, 2048, 16, 4),
    ("laptop", HALF_B, "transformers cpu fp32", 1, 2048, 16, 16),
]

ENCODERS = [
    # machine, engine, context, adapters, arguments
    ("H100", "vllm nvidia bf16", 8192, 0, ()),
    ("MI300X", "vllm amd bf16", 8192, 0, ()),
    ("Apple", "transformers cpu fp32", 2048, 0, ()),
    ("CPU", "transformers cpu fp32", 2048, 0, ()),
    ("laptop", "transformers cpu fp32", 2048, 0, ()),
]

REFUSED = [
    ("T4", SEVEN_B, "15.2 GB of weights in fp16", "leave 12.5 GB"),
    ("A10", THIRTY_TWO_B, "65.5 GB of weights in bf16", "leave 19.7 GB"),
    ("A100-40", THIRTY_TWO_B, "65.5 GB of weights in bf16", "leave 36.7 GB"),
    ("A100-80", SEVENTY_TWO_B, "145.4 GB of weights in bf16", "leave 75.3 GB"),
    ("H100", SEVENTY_TWO_B, "75.2 GB of weights in fp8", "leave 75.0 GB"),
    ("910B", MIXTURE, "61.1 GB of weights in bf16", "leave 59.8 GB"),
    ("Apple", MIXTURE, "not qwen3_moe", ""),
    ("CPU", SEVENTY_TWO_B, "290.8 GB of weights in fp32", "leave 202.8 GB"),
    ("laptop", SEVEN_B, "30.5 GB of weights in fp32", "leave 17.2 GB"),
]


def engine_of(choice: Choice) -> str:
    return f"{choice.kind} {choice.hardware} {choice.precision}"


@pytest.mark.parametrize(("where", "model", "engine", "devices", "context", "batch", "adapters"), FITS)
def test_the_table_of_what_fits(
    where: str, model: ModelShape, engine: str, devices: int, context: int, batch: int, adapters: int
) -> None:
    choice = choose(MACHINES[where], model, ANYTHING)
    assert engine_of(choice) == engine
    sizes = (choice.tensor_parallel, choice.context, choice.batch, choice.adapters)
    assert sizes == (devices, context, batch, adapters)
    memory = choice.memory
    assert memory.reserve + memory.weights + memory.slots + memory.kv <= memory.usable < memory.total
    assert choice.tensor_parallel * choice.replicas <= max(1, len(MACHINES[where].devices))
    assert len(choice.reasons) == 5
    assert all(choice.reasons)


@pytest.mark.parametrize(("where", "engine", "context", "adapters", "arguments"), ENCODERS)
def test_a_model_that_embeds_gets_an_engine_that_can_and_no_adapters(
    where: str, engine: str, context: int, adapters: int, arguments: tuple[str, ...]
) -> None:
    choice = choose(MACHINES[where], ENCODER, ANYTHING)
    assert (engine_of(choice), choice.context, choice.adapters) == (engine, context, adapters)
    assert engine_defaults(choice)["max_adapters"] == 0
    assert choice.extra_args == arguments
    assert "no adapters: a model to embed texts has no adapters" in choice.reasons
    assert "states of a pass" in choice.reasons[3]


def test_an_engine_that_needs_flags_for_an_encoder_gets_them_and_one_that_serves_none_says_so() -> None:
    choice = choose(MACHINES["H100"], ENCODER, Wishes(kind="sglang"))
    assert choice.extra_args == ("--is-embedding", "--disable-radix-cache")
    with pytest.raises(DoesNotFit, match="it serves models that generate text, not one to embed texts"):
        choose(MACHINES["H100"], ENCODER, Wishes(kind="lmdeploy"))
    with pytest.raises(DoesNotFit, match="a model to embed texts has no adapters"):
        choose(MACHINES["CPU"], ENCODER, Wishes(adapters=4))


@pytest.mark.parametrize(("where", "model", "needed", "left"), REFUSED)
def test_the_table_of_what_does_not_fit(where: str, model: ModelShape, needed: str, left: str) -> None:
    with pytest.raises(DoesNotFit) as refusal:
        choose(MACHINES[where], model, ANYTHING)
    assert needed in str(refusal.value)
    assert left in str(refusal.value)


def test_what_one_device_is_too_small_for_is_not_left_to_the_cpu_in_silence() -> None:
    with pytest.raises(DoesNotFit) as refusal:
        choose(machine(A100_40), THIRTY_TWO_B, ANYTHING)
    assert "transformers" not in str(refusal.value)
    assert engine_of(choose(machine(A100_40), THIRTY_TWO_B, Wishes(kind="transformers"))) == "transformers cpu fp32"


def test_a_refusal_has_all_the_numbers() -> None:
    with pytest.raises(DoesNotFit) as refusal:
        choose(MACHINES["2xA100-80"], SEVENTY_TWO_B, Wishes(adapters=8, context=4096))
    # On each of two: 2 x (8,192 + 4,096) for q, o, 2 x (8,192 + 512) for k, v, 3 x (8,192 + 14,784) for the rest
    # = 110,912; x 64 x 80 x 2 = 1.136 GB. 145.4 + 2 x 8 x 1.136 + 4,096 x 0.000328 = 145.4 + 18.2 + 1.3 = 164.9.
    # 2 x (85.9 x 0.9 - 2.0) = 150.6
    assert str(refusal.value) == (
        "vllm on NVIDIA A100-SXM4-80GB: Qwen2.5-72B needs 164.9 GB (145.4 GB of weights in bf16, 18.2 GB for 8 "
        "adapter(s) of rank 64, 1.3 GB for keys and values of 4096 tokens); 2 x 85.9 GB, of which 90% are used, less "
        "2.0 GB each for computing, leave 150.6 GB"
    )


def test_fp8_is_taken_when_16_bits_do_not_fit_and_the_device_computes_in_it() -> None:
    # 72B: 75.2 GB in fp8 on 96 GB x 0.9 - 2 = 84.4, where 145.4 do not fit.
    large = nvidia("NVIDIA H100 NVL", 91553, 9, 0)
    assert engine_of(choose(machine(large), SEVENTY_TWO_B, ANYTHING)) == "vllm nvidia fp8"
    with pytest.raises(DoesNotFit):
        choose(machine(replace(large, capability=(8, 0))), SEVENTY_TWO_B, ANYTHING)
    with pytest.raises(DoesNotFit, match="fp8 is not one of bf16, fp16, fp32"):
        choose(machine(A100_40), SEVEN_B, Wishes(precision=Precision.FP8))


def test_shared_prefixes_and_structured_answers_are_sglangs() -> None:
    for workload in (Workload.SHARED_PREFIXES, Workload.STRUCTURED):
        for where in ("H100", "MI300X"):
            assert choose(MACHINES[where], SEVEN_B, Wishes(workload=workload)).kind == "sglang"
        assert choose(MACHINES["CPU"], SEVEN_B, Wishes(workload=workload)).kind == "transformers"


def test_four_bits_without_adapters_are_turbominds() -> None:
    choice = choose(MACHINES["A10"], SEVEN_B_AWQ, Wishes(adapters=0))
    assert engine_of(choice) == "lmdeploy nvidia int4"
    assert choice.extra_args == ("--backend", "turbomind", "--model-format", "awq")
    assert choose(MACHINES["A10"], SEVEN_B_AWQ, Wishes(adapters=1)).kind == "vllm"
    assert choose(MACHINES["A10"], SEVEN_B_AWQ, Wishes(adapters=1, kind="lmdeploy")).extra_args == ()


def test_a_quantized_checkpoint_goes_to_an_engine_that_has_its_products() -> None:
    eights = replace(SEVEN_B, quantization=Quantization(method=COMPRESSED, scheme=Scheme.W8A8_INT8), stored_bits=8)
    assert engine_of(choose(MACHINES["CPU"], SEVEN_B_AWQ, ANYTHING)) == "transformers cpu int4"
    assert engine_of(choose(MACHINES["CPU"], eights, ANYTHING)) == "transformers cpu int8"
    by_vllm = choose(MACHINES["CPU"], eights, Wishes(kind="vllm"))
    assert engine_of(by_vllm) == "vllm cpu int8"
    assert engine_defaults(by_vllm)["max_adapters"] == 0
    assert engine_of(choose(MACHINES["A10"], eights, ANYTHING)) == "vllm nvidia int8"
    assert engine_of(choose(MACHINES["MI300X"], SEVEN_B_AWQ, ANYTHING)) == "vllm amd int4"
    with pytest.raises(DoesNotFit, match=r"cpu_gemm_wna16.*the first request ends the server"):
        choose(MACHINES["CPU"], SEVEN_B_AWQ, Wishes(kind="vllm"))
    with pytest.raises(
        DoesNotFit, match=r"w8a8-int8.*compute capability 10\.0, and the products are there below 10\.0"
    ):
        choose(machine(nvidia("B200", 183359, 10, 0)), eights, Wishes(kind="vllm"))


def test_keys_and_values_beside_quantized_weights_have_four_bytes_on_a_cpu() -> None:
    full = choose(MACHINES["CPU"], SEVEN_B, ANYTHING)
    assert choose(MACHINES["CPU"], SEVEN_B_AWQ, ANYTHING).kv_bytes_per_token == full.kv_bytes_per_token


def test_adapters_on_ascend_are_vllms() -> None:
    assert choose(MACHINES["910B"], SEVEN_B, Wishes(adapters=4)).kind == "vllm"
    with pytest.raises(DoesNotFit, match="LMDeploy has LoRA on CUDA alone"):
        choose(MACHINES["910B"], SEVEN_B, Wishes(adapters=4, kind="lmdeploy"))


@pytest.mark.parametrize("vendor", [Vendor.METAX, Vendor.CAMBRICON])
def test_devices_that_the_pinned_engine_fails_on_are_refused_and_the_cpu_serves(vendor: Vendor) -> None:
    there = machine(Device(vendor=vendor, name="one", memory_bytes=64 * GB))
    assert engine_of(choose(there, SEVEN_B, ANYTHING)) == "transformers cpu fp32"
    with pytest.raises(DoesNotFit, match=r"LMDeploy 0\.18\.0, which is pinned"):
        choose(there, SEVEN_B, Wishes(kind="lmdeploy"))


def test_a_device_too_old_for_the_pinned_builds_is_refused() -> None:
    with pytest.raises(DoesNotFit, match=r"Tesla V100 has compute capability 7\.0, the pinned builds need 7\.5"):
        choose(machine(nvidia("Tesla V100", 32768, 7, 0)), SEVEN_B, Wishes(kind="vllm"))


def test_an_environment_that_is_absent_is_not_counted_on() -> None:
    nothing = Wishes(ready=frozenset())
    assert engine_of(choose(MACHINES["H100"], SEVEN_B, nothing)) == "transformers cpu fp32"
    for_cpu = Wishes(ready=frozenset({("vllm", "cpu")}), kind="vllm")
    with pytest.raises(DoesNotFit, match="lorry envs install vllm --variant nvidia"):
        choose(MACHINES["H100"], SEVEN_B, for_cpu)
    assert engine_of(choose(MACHINES["CPU"], SEVEN_B, for_cpu)) == "vllm cpu fp32"
    there = Wishes(ready=frozenset({("vllm", "nvidia")}))
    assert engine_of(choose(MACHINES["H100"], SEVEN_B, there)) == "vllm nvidia bf16"


def test_bf16_on_a_cpu_needs_instructions_for_it() -> None:
    asked = Wishes(kind="vllm")
    assert choose(machine(processor=AMX), SEVEN_B, asked).precision is Precision.BF16
    assert choose(machine(processor=OLD), HALF_B, asked).precision is Precision.FP32
    assert "5 to 8 times slower" in choose(machine(processor=OLD), HALF_B, asked).reasons[1]
    assert choose(machine(processor=OLD), HALF_B, replace(asked, precision=Precision.BF16)).precision is Precision.BF16


def test_a_checkpoint_in_fp16_stays_in_it() -> None:
    assert choose(MACHINES["A10"], replace(SEVEN_B, stored_type="F16"), ANYTHING).precision is Precision.FP16


def test_an_engine_that_needs_a_stand_in_is_never_chosen_and_says_so_when_asked_for() -> None:
    for kind in ("sglang", "lmdeploy"):
        choice = choose(machine(processor=OLD), HALF_B, Wishes(kind=kind))
        assert "stand-in for its kernels, for tests alone" in choice.reasons[0]
        with pytest.raises(DoesNotFit, match=f"the stand-in that lets {kind} run"):
            choose(MACHINES["CPU"], SEVEN_B_AWQ, Wishes(kind=kind))


def test_what_a_person_asks_for_is_kept_or_refused() -> None:
    asked = Wishes(
        kind="sglang", precision=Precision.FP16, context=4096, batch=32, adapters=3, rank=16, tensor_parallel=2
    )
    choice = choose(MACHINES["8xH100"], SEVEN_B, asked)
    kept = (choice.kind, choice.precision, choice.context, choice.batch, choice.adapters, choice.rank)
    assert kept == ("sglang", "fp16", 4096, 32, 3, 16)
    assert (choice.tensor_parallel, choice.replicas) == (2, 4)
    for wish, message in [
        (Wishes(kind="llamacpp"), "'llamacpp' is not one of transformers, vllm, sglang, lmdeploy"),
        (Wishes(context=65536), "a context of 65536 is above the model's own 32768"),
        (Wishes(precision=Precision.INT4), "int4 needs a checkpoint of 4-bit weights"),
        (Wishes(tensor_parallel=16), "16 devices were asked for, 8 are there"),
        (Wishes(tensor_parallel=8), "28 heads \\(4 of keys\\) cannot be shared out to 8"),
        (Wishes(kind="transformers", precision=Precision.BF16), "bf16 is not one of fp32"),
    ]:
        with pytest.raises(DoesNotFit, match=message):
            choose(MACHINES["8xH100"], SEVEN_B, wish)


def test_unlike_devices_do_not_share_a_model() -> None:
    choice = choose(machine(A100_40, H100, A100_40), SEVENTY_TWO_B_AWQ, ANYTHING)
    # Two A100-40 have 85.9 GB together and are taken before the one H100 with 85.5.
    assert (choice.devices, choice.tensor_parallel) == (2, 2)


def test_on_a_tight_cpu_adapters_give_way_to_sequences() -> None:
    # 40 GB x 0.8 - 2 = 30.0; 7B in float32 takes 30.46 and nothing fits. 44 GB: 33.2 - 30.46 = 2.74; an adapter takes
    # 0.646, a sequence of 2,048 tokens 0.235. 4 adapters would leave 0.15, none; 2 leave 1.45: 6 sequences.
    with pytest.raises(DoesNotFit, match=r"leave 30\.0 GB"):
        choose(machine(processor=replace(OLD, memory_bytes=40 * GB)), SEVEN_B, ANYTHING)
    choice = choose(machine(processor=replace(OLD, memory_bytes=44 * GB)), SEVEN_B, ANYTHING)
    assert (choice.adapters, choice.batch) == (2, 6)


def test_more_of_a_machine_never_gives_less() -> None:
    for model in (HALF_B, SEVEN_B, THIRTY_TWO_B):
        small, large = (choose(MACHINES[where], model, ANYTHING) for where in ("A100-80", "MI300X"))
        assert small.largest_context <= large.largest_context
        assert small.largest_batch <= large.largest_batch


@pytest.mark.parametrize(("where", "model"), [row[:2] for row in FITS])
def test_every_choice_is_settings_that_an_engine_takes(where: str, model: ModelShape) -> None:
    choice = choose(MACHINES[where], model, ANYTHING)
    given = {"base_path": "/m", "base_name": "m", "log_path": "/l", **engine_defaults(choice)}
    settings = EngineSettings.model_validate(given)
    assert settings.max_batch == choice.batch
    assert settings.tensor_parallel == choice.tensor_parallel


@pytest.mark.parametrize("where", sorted(MACHINES.keys() - {"Apple"}))
@pytest.mark.parametrize("kind", [None, *ENGINES])
def test_every_choice_is_one_that_the_engines_driver_takes(where: str, kind: str | None, model_folder: Path) -> None:
    choice = choose(MACHINES[where], read_shape(model_folder), Wishes(kind=kind))
    given = {"base_path": model_folder, "base_name": "m", "log_path": "/l", **engine_defaults(choice)}
    if choice.kind in ENVIRONMENTS:
        given["interpreter"] = sys.executable
    build_engine(EngineSettings.model_validate(given))


def test_the_engines_settings_follow_from_the_choice() -> None:
    gpu = engine_defaults(choose(MACHINES["8xH100"], SEVENTY_TWO_B, ANYTHING))
    assert gpu == {
        "kind": "vllm",
        "hardware": "nvidia",
        "precision": "bf16",
        "tensor_parallel": 4,
        "max_context": 8192,
        "max_batch": 188,
        "max_adapters": 8,
        "batch_adapters": 8,
        "max_rank": 64,
        "extra_args": (),
    }
    own = engine_defaults(choose(MACHINES["CPU"], SEVEN_B, ANYTHING))
    assert own == {"kind": "transformers", "max_context": 2048, "max_batch": 16, "max_adapters": 16, "max_rank": 64}
    # 16 x 2,048 x 114,688 bytes = 3.5 GiB
    assert engine_defaults(choose(MACHINES["CPU"], SEVEN_B, Wishes(kind="vllm")))["kv_memory_gib"] == 3.5
    assert "batch_adapters" not in engine_defaults(choose(MACHINES["910B"], SEVEN_B, ANYTHING))
