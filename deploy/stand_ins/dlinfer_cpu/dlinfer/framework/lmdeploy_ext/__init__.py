"""LMDeploy imports this when it is started with `--device maca`, and expects the device to be in place afterwards.

As the plugins of real devices do, it turns the "cuda" path that LMDeploy takes everywhere to the device, here the CPU,
and gives the operators, here in plain PyTorch. For tests and development machines: it raises where there is an
accelerator.
"""

from dlinfer.framework.lmdeploy_ext import fake_cuda

fake_cuda.install()

from dlinfer.framework.lmdeploy_ext import backend  # noqa: E402 - LMDeploy's modules ask for CUDA when imported

backend.install()
