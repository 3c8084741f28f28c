"""Fuzz a gateway: `python -m tests.fuzz [--requests 50000] [--seed N] [--only NUMBER]`, as `make fuzz` does.

Half of the requests go to a gateway without keys, half to one with keys. A fault is printed with the seed and the
number that repeat it, and with the bytes that were sent.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.fuzzing import fuzz


def main() -> int:
    """Return 1 if there was a fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("--only", type=int, help="number of a single request")
    parser.add_argument("--folder", type=Path, help="where the gateways' registries and logs stay")
    args = parser.parse_args()
    sys.stdout.write(f"seed {args.seed}\n")
    half = args.requests // 2
    faults = 0
    with tempfile.TemporaryDirectory(prefix="lorry-fuzz-") as made:
        for with_keys, numbers in ((False, range(half)), (True, range(half, args.requests))):
            chosen = [number for number in numbers if args.only in (None, number)]
            if not chosen:
                continue
            folder = (args.folder or Path(made)) / ("with-keys" if with_keys else "keyless")
            folder.mkdir(parents=True)
            began = time.monotonic()
            figures = asyncio.run(fuzz(folder, args.seed, chosen, with_keys=with_keys))
            faults += len(figures.faults)
            sys.stdout.write(
                f"{'with' if with_keys else 'without'} keys, {time.monotonic() - began:.0f} s: {figures.text()}\n"
            )
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
