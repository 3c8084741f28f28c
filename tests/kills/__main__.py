"""Kill parts of Lorry: `python -m tests.kills [--kills 50] [--seed 7] [--folder FOLDER]`, as `make kills` does."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.kills.asked import KINDS, Kind
from tests.kills.drill import drill
from tests.kills.stage import Stage


def _kinds(names: str) -> list[Kind]:
    known = {kind.name: kind for kind in KINDS}
    if unknown := [name for name in names.split(",") if name not in known]:
        raise argparse.ArgumentTypeError(f"there is no kind {unknown[0]!r}; there are {', '.join(known)}")
    return [known[name] for name in names.split(",")]


def main() -> int:
    """Return 1 if a job was lost, published twice, or has another result than an undisturbed one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="where the home and the logs of the parts stay")
    parser.add_argument("--kinds", type=_kinds, default=KINDS, help="kinds of jobs, default: all")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lorry-kills-") as made:
        home = args.folder or Path(made)
        home.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        outcome = drill(Stage(home), args.seed, args.kills, lambda line: sys.stderr.write(f"{line}\n"), args.kinds)
    sys.stdout.write(f"seed {args.seed}, {time.monotonic() - began:.0f} s: {outcome.text()}\n")
    for fault in outcome.faults:
        sys.stdout.write(f"  {fault}\n")
    return 1 if outcome.faults else 0


if __name__ == "__main__":
    sys.exit(main())
