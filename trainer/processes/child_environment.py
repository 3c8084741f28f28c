"""The environment of training children: no secrets, no hubs, a fixed number of threads."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

SOURCES: Final = Path(__file__).parents[2]
SECRET: Final = re.compile(
    r"^PG|^RAY_|^AWS_|^AZURE_|^GOOGLE_|TOKEN$|SECRET|PASSW|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|AUTH|_KEY$|_URL$"
)
"""Names of environment variables that may hold a secret, or lead to one: those of PostgreSQL, Ray and buckets too."""


def child_environment(
    environment: Mapping[str, str], threads: int, *, asks_ray: bool = False, accelerator: str | None = None
) -> dict[str, str]:
    """Return *environment* without secrets and access to hubs, with limited threads and fixed hash seeds.

    A child reads an order and writes files: the database and whatever else a worker reaches are not its business. Ray
    is only where it *asks_ray* for places of further processes, which themselves have no access to Ray. If there are
    several accelerators, the child sees the one of that name.
    """
    kept = {name for name in environment if asks_ray and name.startswith("RAY_")}
    count = str(threads)
    paths = [str(SOURCES), environment.get("PYTHONPATH", "")]
    own = {} if accelerator is None else {"CUDA_VISIBLE_DEVICES": accelerator}
    return {name: value for name, value in environment.items() if name in kept or SECRET.search(name) is None} | {
        **own,
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "PYTHONHASHSEED": "0",  # PEFT writes sets into its config
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "OMP_WAIT_POLICY": "passive",  # threads that spin for work starve the engines, and on a busy machine themselves
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
