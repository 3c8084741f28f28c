"""`python -m engines.proving.trial_program ORDER DESCRIPTOR`: try a checkpoint on engines, for a caller without them.

The order is a JSON file with the fields of `Tried`, and the caller's process id. Each result is a line of JSON on the
descriptor: `{"kind": "tried", "message": "", "data": {...}}` with the fields of `LoadTest`. The last line's kind is
`finished`, or `failed` with the reason.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from engines.bound_child import die_with_parent
from engines.errors import EngineError
from engines.proving.trials import Tried, trials


def main() -> None:
    """Carry out the order that the arguments name."""
    order, descriptor = json.loads(Path(sys.argv[1]).read_text()), int(sys.argv[2])
    die_with_parent(order["parent_pid"], signal.SIGKILL)
    try:
        for found in trials(_tried(order)):
            _send(descriptor, "tried", found.reason, found.as_json())
    except EngineError as exc:
        _send(descriptor, "failed", str(exc), {})
        raise SystemExit(1) from exc
    _send(descriptor, "finished", "", {})


def _tried(order: dict[str, Any]) -> Tried:
    return Tried(
        kinds=tuple(order["kinds"]),
        checkpoint=Path(order["checkpoint"]),
        original=Path(order["original"]),
        home=Path(order["home"]),
        logs=Path(order["logs"]),
        threads=order["threads"],
    )


def _send(descriptor: int, kind: str, message: str, data: dict[str, Any]) -> None:
    line = json.dumps({"kind": kind, "message": message, "data": data}).encode() + b"\n"
    while line:
        line = line[os.write(descriptor, line) :]


if __name__ == "__main__":
    main()
