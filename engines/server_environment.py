"""The part of our environment that an inference server gets: what it needs to compute, and nobody's secrets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_NAMES: Final = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TERM", "TMPDIR", "TMP", "TEMP"),
        *("LD_LIBRARY_PATH", "LD_PRELOAD", "LIBRARY_PATH", "CPATH", "CC", "CXX", "MAX_JOBS", "NUMEXPR_MAX_THREADS"),
        *("PYTHONDONTWRITEBYTECODE", "PYTHONHASHSEED", "PYTHONPYCACHEPREFIX", "MALLOC_CONF", "TOKENIZERS_PARALLELISM"),
    }
)
_BEGINNINGS: Final = (
    *("LC_", "XDG_", "MALLOC_", "OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "BLIS_", "NUMBA_", "NUMA_"),
    *("CUDA", "NVIDIA_", "NCCL_", "CUBLAS", "CUDNN_", "NVTE_", "NVSHMEM_", "UCX_", "GLOO_", "FI_", "IB_"),
    *("ROCM_", "ROCR_", "HIP_", "HIPBLAS", "HSA_", "RCCL_", "AITER_", "MIOPEN_", "PYTORCH_", "TORCH", "TRITON_"),
    *("ASCEND", "ATB_", "HCCL_", "NPU_", "ATC_", "MACA_", "MCCL_", "MX_", "NEUWARE", "CNCL_", "MLU_"),
    *("HF_", "HUGGINGFACE_", "TRANSFORMERS_", "SAFETENSORS_", "TOKENIZERS_", "XGRAMMAR_", "FLASHINFER_"),
    *("VLLM_", "SGLANG_", "SGL_", "LMDEPLOY_", "DLINFER_", "UVICORN_"),
)
_SECRET: Final = re.compile(r"TOKEN$|SECRET|PASSW|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|AUTH|_KEY$")


def server_base_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of *environment* by which servers, their libraries and their drivers are steered.

    A variable whose name is that of a secret is left out, such as the token of a model hub: servers work offline.
    """
    return {name: value for name, value in environment.items() if _is_passed_on(name)}


def _is_passed_on(name: str) -> bool:
    return (name in _NAMES or name.startswith(_BEGINNINGS)) and _SECRET.search(name) is None
