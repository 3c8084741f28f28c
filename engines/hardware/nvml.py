"""`python -m engines.hardware.nvml`: NVIDIA's devices by their driver's library, as a line of JSON; `null` without one.

A process of its own: a driver in a bad state hangs or crashes those that ask it.
"""

from __future__ import annotations

import json

import pynvml


def main() -> None:
    """Print a list of devices, or null when the library is not there."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError_LibraryNotFound:
        print("null")  # noqa: T201 - this is its answer
        return
    devices = []
    for index in range(pynvml.nvmlDeviceGetCount()):
        device = pynvml.nvmlDeviceGetHandleByIndex(index)
        memory = pynvml.nvmlDeviceGetMemoryInfo(device)
        devices.append(
            {
                "name": str(pynvml.nvmlDeviceGetName(device)),
                "memory_bytes": memory.total,
                "used_bytes": memory.used,
                "capability": list(pynvml.nvmlDeviceGetCudaComputeCapability(device)),
            }
        )
    print(json.dumps(devices))  # noqa: T201


if __name__ == "__main__":
    main()
