"""Processor time and peak memory of each way to train weights, with its loss, on a base model and chats.

    python bench/training_weights.py FOLDER [--steps 4] [--only qlora] [--json FILE]

Each way is one training child, whole, on one thread: batch 4 of `examples/support.jsonl`, LoRA of rank 16. "s/step" is
processor time between the first and the last step, "peak MB" the most resident memory of the child.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.training.children import ChildJob, run_child

WAYS: Final[Mapping[str, Mapping[str, Any]]] = {
    "lora": {},
    "rslora": {"lora_variant": "rslora"},
    "pissa": {"lora_variant": "pissa"},
    "olora": {"lora_variant": "olora"},
    "lora+": {"lora_plus_ratio": 16.0},
    "dora": {"lora_variant": "dora"},
    "lora, gradient checkpointing": {"gradient_checkpointing": True},
    "lora, micro batch 1": {"micro_batch_size": 1},
    "qlora": {"weights": "qlora"},
    "full, adamw": {"weights": "full"},
    "full, adafactor": {"weights": "full", "optimizer": "adafactor"},
    "full, galore": {"weights": "full", "optimizer": "galore"},
    "full, apollo": {"weights": "full", "optimizer": "apollo"},
    "lora, bf16": {"precision": "bf16"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The figures of one way."""

    way: str
    cpu_s: float
    step_s: float
    peak_mb: float
    first_loss: float
    last_loss: float


def main() -> None:
    """Measure each way and print a row of a table for it."""
    args = _arguments()
    measured = []
    sys.stdout.write(f"{'way':32}{'cpu s':>8}{'s/step':>8}{'peak MB':>9}{'loss':>18}\n")
    for way in WAYS:
        if args.only in (None, way):
            found = _measure(way, args.folder, args.steps)
            measured.append(asdict(found))
            losses = f"{found.first_loss:.3f} -> {found.last_loss:.3f}"
            row = f"{way:32}{found.cpu_s:8.1f}{found.step_s:8.2f}{found.peak_mb:9.0f}{losses:>18}\n"
            sys.stdout.write(row)
            sys.stdout.flush()
    if args.json:
        args.json.write_text(json.dumps(measured, indent=1) + "\n")


def _measure(way: str, folder: Path, steps: int) -> Measured:
    options = {"hyperparameters": WAYS[way]}
    job = ChildJob(method="supervised", base=folder, files="support", steps=steps, options=options, validates=False)
    with tempfile.TemporaryDirectory() as home:
        run = run_child(job, Path(home))
    return Measured(
        way=way,
        cpu_s=run.cpu_s,
        step_s=run.step_s,
        peak_mb=run.peak_mb,
        first_loss=run.losses[0],
        last_loss=run.losses[-1],
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--only", choices=[*WAYS])
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
