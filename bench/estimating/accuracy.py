"""Print how far estimates of memory and time are from what jobs take here, in one table.

    python bench/estimating/accuracy.py [FOLDER] [--only DPO] [--keep FILE]

FOLDER is a base model; without it the bundled one is unpacked below `.bench`. Each job is one training child on one
thread, whole, and its peak is what it reports at its end. With `--keep` measured jobs are written to a JSON file and
not run again, so that the table can be made in pieces. Times are wall-clock times: a busy machine makes them longer.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench.estimating.cases import CASES, EstimatedJob
from bench.methods import base_folder
from engines.hardware.probe import read_machine
from estimates.devices import own_device
from estimates.model_config import read_model_config
from estimates.row_lengths import read_data_shape
from estimates.training import TrainingEstimate, estimate_training
from registry.artifacts import folder_digest
from registry.contracts.fine_tune_spec import FineTuneSpec
from registry.contracts.job_kinds import FINE_TUNING_METHODS
from registry.disk import sha256_of
from trainer.order import ChildOrder
from trainer.progress import RecipeFailed, RecipeFinished
from trainer.runner import TrainingChild

MB: Final = 10**6
WAIT_S: Final = 900.0
BOUNDS: Final = (-0.10, 0.15)
"""How far an estimate may be below and above the measured peak."""


def main() -> None:
    """Measure the jobs that were asked for and print their rows; exit with 1 if an estimate is too far off."""
    args = _arguments()
    folder = base_folder(args.folder)
    kept: dict[str, dict[str, float]] = json.loads(args.keep.read_text()) if args.keep and args.keep.exists() else {}
    columns = ("job", "estimated MB", "measured MB", "error", "estimated s", "measured s")
    sys.stdout.write(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|\n")
    far_off = []
    for case in CASES:
        if args.only not in case.name:
            continue
        with tempfile.TemporaryDirectory() as home:
            spec, rows = _spec(case, folder), _write_rows(case, Path(home))
            made = _estimate(spec, rows, folder)
            if case.name not in kept:
                kept[case.name] = _measure(spec, rows, folder, Path(home))
        error = _print_row(case.name, made, kept[case.name])
        if not BOUNDS[0] <= error <= BOUNDS[1]:
            far_off.append(case.name)
        if args.keep:
            args.keep.write_text(json.dumps(kept, indent=1))
    if far_off:
        raise SystemExit(f"too far off: {', '.join(far_off)}")


def _print_row(name: str, made: TrainingEstimate, took: dict[str, float]) -> float:
    error = made.peak_bytes / took["peak_bytes"] - 1
    cells = (
        name,
        f"{made.peak_bytes / MB:,.0f}",
        f"{took['peak_bytes'] / MB:,.0f}",
        f"{error:+.1%}",
        f"{made.seconds:.0f}",
        f"{took['seconds']:.0f}",
    )
    sys.stdout.write(f"| {' | '.join(cells)} |\n")
    sys.stdout.flush()
    return error


def _spec(case: EstimatedJob, folder: Path) -> FineTuneSpec:
    kind = FINE_TUNING_METHODS[case.method]
    options = kind.options_as.model_validate({**case.options, "hyperparameters": case.hyperparameters})
    fields: dict[str, Any] = {**kind.resolve(options, len(case.rows)), "n_epochs": 1, "training_file": "file-1"}
    return kind(base="base", base_digest=folder_digest(folder), adapter="a", seed=1, **fields)


def _write_rows(case: EstimatedJob, home: Path) -> Path:
    """Write the rows below their digest: a child verifies its inputs."""
    written = home / "rows.jsonl"
    written.write_text("".join(json.dumps(row) + "\n" for row in case.rows))
    return written.rename(home / sha256_of(written))


def _estimate(spec: FineTuneSpec, rows: Path, folder: Path) -> TrainingEstimate:
    device = own_device(read_machine(), threads=1)
    return estimate_training(read_model_config(folder), spec, read_data_shape(rows, type(spec), folder), device)


def _measure(spec: FineTuneSpec, rows: Path, folder: Path, home: Path) -> dict[str, float]:
    """Return the peak and the seconds of the job; exit with the child's message if it fails."""
    attempt = home / "attempt-1"
    attempt.mkdir()
    order = ChildOrder[FineTuneSpec](
        spec=spec,
        base_path=folder,
        inputs={"training_file": rows},
        job_folder=home,
        attempt_folder=attempt,
        keep_checkpoints=2,
        threads=1,
        nice=0,
        worker_pid=os.getpid(),
    )
    began = time.monotonic()
    child = TrainingChild(order)
    try:
        while time.monotonic() < began + WAIT_S:
            match child.next_progress(1.0):
                case RecipeFinished(peak_bytes=int() as peak):
                    return {"peak_bytes": peak, "seconds": time.monotonic() - began}
                case RecipeFailed() as failed:
                    raise SystemExit(f"{spec.method}: {failed.message}")
    finally:
        child.close()
    raise SystemExit(f"{spec.method}: took longer than {WAIT_S:.0f} s")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--only", default="", metavar="PART", help="jobs whose name has this part")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="JSON file of what was measured already")
    return parser.parse_args()


if __name__ == "__main__":
    main()
