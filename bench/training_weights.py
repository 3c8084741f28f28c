"""Processor time and peak memory of each way to train weights, with its loss, on a base model and chats.

    python bench/training_weights.py FOLDER [--steps 4] [--only qlora] [--json FILE]

Each way is one training child, whole, on one thread: batch 4 of `examples/support.jsonl`, LoRA of rank 16. "s/step" is
processor time between the first and the last step, "peak MB" the most resident memory of the child.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from registry.artifacts import folder_digest
from registry.contracts.hyperparameters import Hyperparameters, MethodOptions
from registry.contracts.methods.supervised_spec import SupervisedSpec
from registry.disk import sha256_of
from trainer.order import ChildOrder
from trainer.progress import RecipeFailed, RecipeFinished, Stepped
from trainer.runner import TrainingChild

CHATS: Final = Path(__file__).parents[1] / "examples" / "support.jsonl"
BATCH: Final = 4
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
    with _child(way, folder, steps) as child:
        process = psutil.Process(child.pid)
        times: list[float] = []
        losses: list[float] = []
        peak = spent = 0.0
        while True:
            progress = child.next_progress(0.05)
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                spent = sum(process.cpu_times()[:2])
                peak = max(peak, _peak_mb(child.pid))
            match progress:
                case Stepped():
                    times.append(spent)
                    losses.append(progress.train_loss)
                case RecipeFinished():
                    break
                case RecipeFailed():
                    raise SystemExit(f"{way}: {progress.message}")
    return Measured(
        way=way,
        cpu_s=spent,
        step_s=(times[-1] - times[0]) / (len(times) - 1),
        peak_mb=peak,
        first_loss=losses[0],
        last_loss=losses[-1],
    )


@contextmanager
def _child(way: str, folder: Path, steps: int) -> Iterator[TrainingChild]:
    """Start a child that trains *way* for *steps* steps."""
    with tempfile.TemporaryDirectory() as home:
        chats = Path(home) / "chats.jsonl"
        chats.write_text("".join(CHATS.read_text().splitlines(keepends=True)[: BATCH * steps]))
        asked = MethodOptions(hyperparameters=Hyperparameters.model_validate({**WAYS[way], "batch_size": BATCH}))
        fields = SupervisedSpec.resolve(asked, BATCH * steps) | {"n_epochs": 1, "checkpoint_steps": steps}
        spec = SupervisedSpec(
            base="base", base_digest=folder_digest(folder), adapter="a", training_file="file", seed=1, **fields
        )
        attempt = Path(home) / "attempt-1"
        attempt.mkdir()
        order = ChildOrder[SupervisedSpec](
            spec=spec,
            base_path=folder,
            # Below a name that is its digest, as the child verifies its inputs.
            inputs={"training_file": chats.rename(chats.parent / sha256_of(chats))},
            job_folder=Path(home),
            attempt_folder=attempt,
            keep_checkpoints=1,
            threads=1,
            nice=0,
            worker_pid=os.getpid(),
        )
        child = TrainingChild(order)
        try:
            yield child
        finally:
            child.close()


def _peak_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--only", choices=[*WAYS])
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
