"""Machines and models that the choice is tested on, with memory as the vendors' tools report it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from engines.base_task import BaseTask
from engines.hardware.machine import GB, Device, Machine, Processor
from engines.hardware.shape import ModelShape
from engines.kinds import Vendor
from engines.quantization import Quantization, Scheme

MIB: Final = 1024 * 1024
PLAIN: Final = Processor(name="two sockets", cores=64, memory_bytes=256 * GB, flags=frozenset({"avx2", "avx512f"}))
AMX: Final = replace(PLAIN, flags=PLAIN.flags | {"avx512_bf16", "amx_tile", "amx_bf16"})
OLD: Final = Processor(name="laptop", cores=2, memory_bytes=24 * GB, flags=frozenset({"avx2"}))


def nvidia(name: str, mib: int, major: int, minor: int) -> Device:
    return Device(vendor=Vendor.NVIDIA, name=name, memory_bytes=mib * MIB, capability=(major, minor))


def machine(*devices: Device, processor: Processor = PLAIN) -> Machine:
    return Machine(processor=processor, devices=devices)


T4: Final = nvidia("Tesla T4", 15360, 7, 5)
A10: Final = nvidia("NVIDIA A10", 23028, 8, 6)
A100_40: Final = nvidia("NVIDIA A100-SXM4-40GB", 40960, 8, 0)
A100_80: Final = nvidia("NVIDIA A100-SXM4-80GB", 81920, 8, 0)
H100: Final = nvidia("NVIDIA H100 80GB HBM3", 81559, 9, 0)
MI300X: Final = Device(vendor=Vendor.AMD, name="AMD Instinct MI300X", memory_bytes=196592 * MIB, architecture="gfx942")
ASCEND: Final = Device(vendor=Vendor.ASCEND, name="Ascend 910B3", memory_bytes=65536 * MIB)
APPLE: Final = Device(vendor=Vendor.APPLE, name="Apple M3 Max", memory_bytes=64 * GB)

MACHINES: Final[Mapping[str, Machine]] = {
    "T4": machine(T4),
    "A10": machine(A10),
    "A100-40": machine(A100_40),
    "A100-80": machine(A100_80),
    "2xA100-80": machine(A100_80, A100_80),
    "H100": machine(H100),
    "8xH100": machine(*[H100] * 8),
    "MI300X": machine(MI300X),
    "910B": machine(ASCEND),
    "8x910B": machine(*[ASCEND] * 8),
    "Apple": machine(APPLE, processor=Processor(name="Apple M3 Max", cores=16, memory_bytes=64 * GB)),
    "CPU": machine(),
    "laptop": machine(processor=OLD),
}


def qwen2(name: str, parameters: int, sizes: tuple[int, int, int, int, int], *, is_tied: bool = False) -> ModelShape:
    """*sizes*: layers, hidden, heads, kv heads, intermediate."""
    layers, hidden, heads, kv_heads, intermediate = sizes
    return ModelShape(
        name=name,
        model_type="qwen2",
        parameters=parameters,
        weight_bytes=2 * parameters,
        stored_bits=16,
        stored_type="BF16",
        layers=layers,
        attention_layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=hidden // heads,
        intermediate=intermediate,
        vocabulary=152064 if not is_tied else 151936,
        is_tied=is_tied,
        max_context=32768,
    )


HALF_B: Final = qwen2("Qwen2.5-0.5B", 494_032_768, (24, 896, 14, 2, 4864), is_tied=True)
SEVEN_B: Final = qwen2("Qwen2.5-7B", 7_615_616_512, (28, 3584, 28, 4, 18944))
THIRTY_TWO_B: Final = qwen2("Qwen2.5-32B", 32_763_876_352, (64, 5120, 40, 8, 27648))
SEVENTY_TWO_B: Final = qwen2("Qwen2.5-72B", 72_706_203_648, (80, 8192, 64, 8, 29568))
ENCODER: Final = replace(
    qwen2("bge-m3", 567_754_752, (24, 1024, 16, 16, 4096)),
    model_type="xlm-roberta",
    task=BaseTask.EMBED,
    max_context=8194,
)
MIXTURE: Final = replace(
    qwen2("Qwen3-30B-A3B", 30_532_122_624, (48, 2048, 32, 4, 768)),
    model_type="qwen3_moe",
    head_dim=128,
    vocabulary=151936,
    max_context=40960,
    experts=128,
    experts_per_token=8,
)
AWQ: Final = Quantization(method="awq", scheme=Scheme.W4A16)
SEVEN_B_AWQ: Final = replace(
    SEVEN_B, name="Qwen2.5-7B-AWQ", quantization=AWQ, stored_bits=4, weight_bytes=5_570_000_000
)
SEVENTY_TWO_B_AWQ: Final = replace(
    SEVENTY_TWO_B, name="Qwen2.5-72B-AWQ", quantization=AWQ, stored_bits=4, weight_bytes=41_600_000_000
)
MODELS: Final = (HALF_B, SEVEN_B, THIRTY_TWO_B, SEVENTY_TWO_B, MIXTURE, SEVEN_B_AWQ, SEVENTY_TWO_B_AWQ)
