"""`auto` follows from use and hardware, and says why."""

from __future__ import annotations

import pytest

from engines.errors import DoesNotFit
from engines.hardware.machine import Device, Machine, Processor
from engines.hardware.scheme_choice import Use, choose_scheme, refusals, why_refused
from engines.kinds import Vendor
from registry.contracts.quantizations.schemes import Scheme
from tests.engines.hardware.machines import MACHINES


def with_gpu(name: str, capability: tuple[int, int] | None, vendor: Vendor = Vendor.NVIDIA) -> Machine:
    """A machine with one accelerator."""
    device = Device(vendor=vendor, name=name, memory_bytes=24 * 10**9, capability=capability)
    return Machine(processor=Processor(name="cpu", cores=8, memory_bytes=64 * 10**9), devices=(device,))


@pytest.mark.parametrize(
    ("machine", "online", "batch"),
    [
        (MACHINES["CPU"], "w8a8-int8", "w8a8-int8"),
        (with_gpu("T4", (7, 5)), "w8a8-int8", "w8a8-int8"),
        (with_gpu("A100", (8, 0)), "w4a16-awq", "w4a16-gptq"),
        (with_gpu("L4", (8, 9)), "w4a16-awq", "w4a16-gptq"),
        (with_gpu("H100", (9, 0)), "fp8", "fp8"),
        (with_gpu("B200", (10, 0)), "fp8", "fp8"),
        (MACHINES["MI300X"], "w4a16-awq", "w4a16-gptq"),
    ],
)
def test_the_scheme_follows_from_use_and_hardware(machine: Machine, online: str, batch: str) -> None:
    chosen = {use: choose_scheme(machine, use, {}) for use in Use}
    assert (chosen[Use.ONLINE].scheme, chosen[Use.BATCH].scheme) == (online, batch)
    for choice in chosen.values():
        assert choice.why
        assert Scheme(choice.scheme)


def test_a_pool_counts_by_what_its_engine_computes_on() -> None:
    machine = with_gpu("H100", (9, 0))
    assert choose_scheme(machine, Use.ONLINE, {"chat": "vllm"}).scheme == "fp8"
    on_cpu = choose_scheme(machine, Use.ONLINE, {"small": "transformers"})
    assert (on_cpu.scheme, "small" in on_cpu.why) == ("w8a8-int8", True)
    with pytest.raises(DoesNotFit, match=r"chat fp8 .*, small w8a8-int8 .*name the scheme"):
        choose_scheme(machine, Use.ONLINE, {"chat": "vllm", "small": "transformers"})


def test_a_kind_that_does_not_serve_a_scheme_there_says_why() -> None:
    on_cpu = refusals("w4a16-gptq", MACHINES["CPU"])
    assert on_cpu["transformers"] is None
    assert "cpu_gemm_wna16" in str(on_cpu["vllm"])
    assert all("GGUF" in str(why) for why in refusals("gguf-q4", MACHINES["CPU"]).values())
    assert why_refused("vllm", "fp8", with_gpu("H100", (9, 0))) is None


def test_a_device_that_computes_in_no_scheme_is_refused_by_name() -> None:
    with pytest.raises(DoesNotFit, match=r"V100 has compute capability 7\.0.*7\.5"):
        choose_scheme(with_gpu("V100", (7, 0)), Use.ONLINE, {})
