"""The stand-ins of SGLang and LMDeploy for a CPU compute the right results, and do nothing beside an accelerator."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

STAND_INS = Path(__file__).parents[3] / "deploy" / "stand_ins"
SGLANG = STAND_INS / "sgl_kernel_cpu"
LMDEPLOY = STAND_INS / "dlinfer_cpu"
WITH_ACCELERATOR = "import torch; torch.accelerator.is_available = lambda: True\n"


def run(folder: Path, program: str) -> subprocess.CompletedProcess[str]:
    """*program* with the stand-in on its path, in an interpreter of its own, since they replace parts of PyTorch."""
    environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=120)


def test_sglangs_two_kernels_move_what_they_should() -> None:
    program = """
import torch, sgl_kernel, sgl_kernel.mamba
pool = torch.zeros(3, 6, dtype=torch.int32)
sgl_kernel.assign_req_to_token_pool_cpu(
    torch.tensor([2, 0]), pool, torch.tensor([1, 0]), torch.tensor([3, 1]), torch.tensor([7, 8, 9]), 6)
assert pool.tolist() == [[9, 0, 0, 0, 0, 0], [0] * 6, [0, 7, 8, 0, 0, 0]]
layers = [torch.arange(8.0).reshape(4, 2), torch.arange(8, 16).reshape(4, 2)]
sgl_kernel.copy_all_layer_kv_cache_cpu(
    torch.tensor([layer.data_ptr() for layer in layers]),
    torch.tensor([layer[0].nbytes for layer in layers]), torch.tensor([1, 2]), torch.tensor([0, 1]))
assert layers[0].tolist() == [[0, 1], [0, 1], [2, 3], [6, 7]]
assert layers[1].tolist() == [[8, 9], [8, 9], [10, 11], [14, 15]]
for missing in (sgl_kernel.rmsnorm, sgl_kernel.mamba.scan):
    try:
        missing()
    except RuntimeError as exc:
        assert "is not in the CPU stand-in" in str(exc)
    else:
        raise SystemExit("it did not raise")
"""
    finished = run(SGLANG, program)
    assert finished.returncode == 0, finished.stderr


def test_sglangs_plugin_drops_pinned_memory_on_a_cpu_alone() -> None:
    program = "import torch; from sgl_kernel.plugin import no_pinned_memory\nno_pinned_memory()\n"
    asked = "assert torch.tensor([1], pin_memory=True).pin_memory().tolist() == [1]"
    finished = run(SGLANG, program + asked)
    assert finished.returncode == 0, finished.stderr
    kept = run(SGLANG, WITH_ACCELERATOR + "before = torch.tensor\n" + program + "assert torch.tensor is before")
    assert kept.returncode == 0, kept.stderr


def test_sglangs_start_file_declares_torchvisions_operators_on_a_cpu_alone() -> None:
    program = (
        "import torch, importlib.util, sgl_kernel_cpu_start\n"
        "importlib.util.find_spec('torchvision'); importlib.util.find_spec('triton')\n"
        "assert hasattr(torch.ops.torchvision, 'nms') is {there}\n"
    )
    finished = run(SGLANG, program.format(there=True).replace("; importlib.util.find_spec('triton')", ""))
    assert finished.returncode == 0, finished.stderr
    kept = run(SGLANG, WITH_ACCELERATOR + program.format(there=False))
    assert kept.returncode == 0, kept.stderr


FAKE_CUDA = "import sys; sys.path.insert(0, {!r}); import fake_cuda; fake_cuda.install()\n".format(
    str(LMDEPLOY / "dlinfer/framework/lmdeploy_ext")
)


def test_lmdeploys_device_is_the_cpu() -> None:
    program = """
import torch
assert torch.zeros(2, device="cuda", pin_memory=True).device.type == "cpu"
assert torch.zeros(2).to("cuda:0").cuda().to(0).new_zeros(1, device=torch.device("cuda")).device.type == "cpu"
assert torch.zeros(2).to(torch.float16).dtype is torch.float16
assert torch.nn.Linear(2, 2).to("cuda").cuda().weight.device.type == "cpu"
free, total = torch.cuda.mem_get_info()
assert 0 < free <= total == torch.cuda.get_device_properties(0).total_memory
with torch.cuda.stream(torch.cuda.Stream()) as stream, torch.cuda.device(0):
    event = torch.cuda.current_stream().record_event()
    event.synchronize()
    assert event.query() and torch.cuda.device_count() == 1
"""
    finished = run(LMDEPLOY, FAKE_CUDA + program)
    assert finished.returncode == 0, finished.stderr


def test_lmdeploys_stand_in_refuses_an_accelerator() -> None:
    finished = run(LMDEPLOY, WITH_ACCELERATOR + "torch.accelerator.current_accelerator = lambda: 'cuda'\n" + FAKE_CUDA)
    assert finished.returncode == 1
    assert "stand-in for machines without an accelerator, and there is one here (cuda)" in finished.stderr
