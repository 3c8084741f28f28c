"""The processes that do a job: Lorry's, TRL's and ms-swift's, all on one thread, offline, in float32."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

OURS: Final = "lorry"
HERE: Final = Path(__file__).parent

Order = Mapping[str, Any]


def _ours(order: Path, _: Order, __: Path) -> list[str]:
    return [sys.executable, str(HERE / "our_job.py"), str(order)]


def _trl(order: Path, _: Order, environment: Path) -> list[str]:
    return [str(environment / "bin" / "python"), str(HERE / "trl_job.py"), str(order)]


def _ms_swift(_: Path, order: Order, environment: Path) -> list[str]:
    options = {
        "model": order["model"],
        "model_type": "llama",
        "template": "chatml",
        "use_hf": "true",  # else it asks its hub for the base model, and waits
        "dataset": order["rows"],
        "output_dir": order["folder"] + "/trained",
        "torch_dtype": "float32",
        "tuner_type": "lora",
        "lora_rank": order["rank"],
        "lora_alpha": order["alpha"],
        "target_modules": "all-linear",
        "max_steps": order["steps"],
        "per_device_train_batch_size": order["micro_rows"],
        "gradient_accumulation_steps": order["batch_size"] // order["micro_rows"],
        "gradient_checkpointing": "false",
        "learning_rate": order["learning_rate"],
        "lr_scheduler_type": "linear",
        "max_length": order["max_length"],
        "logging_steps": 1,
        "save_steps": 25,
        "split_dataset_ratio": 0,
        "dataloader_num_workers": 0,
        "dataset_num_proc": 1,
        "seed": order["seed"],
    }
    flags = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    return [str(environment / "bin" / "swift"), "sft", *flags]


COMMANDS: Final[Mapping[str, Callable[[Path, Order, Path], Sequence[str]]]] = {
    OURS: _ours,
    "trl": _trl,
    "ms-swift": _ms_swift,
}
"""Name -> the command for the file of an order, the order, and the folder of the peer's environment."""


def process_environment(name: str, environment: Path, folder: Path) -> dict[str, str]:
    """Return the variables of a process that works in *folder*."""
    path = f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}" if name != OURS else os.environ["PATH"]
    return os.environ | {
        "PATH": path,
        "HOME": str(folder),
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "MODELSCOPE_CACHE": str(folder / "modelscope"),
    }
