"""The program inside the sandbox: limits first, then the grader. Read as text and given to Python by its option `-c`.

Nothing of ours can be imported there. The order comes on standard input, the answer goes to standard output.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import traceback
from typing import Any


def main() -> None:
    """Read the order, run the grader, write `{"reward": number}` or `{"error": text}`."""
    order = json.load(sys.stdin)
    answer = os.fdopen(os.dup(1), "w")
    # Whatever the grader prints is nobody's to read, and must not stand in the answer.
    nowhere = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    # The caller takes an answer without this line for a sandbox that did not start.
    print(json.dumps({"ready": True}), file=answer, flush=True)
    for name, most in order["limits"].items():
        resource.setrlimit(getattr(resource, name), (most, most))
    sys.path.append("/packages")
    print(json.dumps(_outcome(order)), file=answer, flush=True)
    os._exit(0)  # threads of the grader do not hold the answer back


def _outcome(order: dict[str, Any]) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "grader"}
    try:
        exec(compile(order["source"], "<grader>", "exec"), names)  # noqa: S102 - the purpose of the sandbox
        grade = names.get("grade")
        if not callable(grade):
            return {"error": "the source defines no function grade(sample, item)"}
        if order["namespaces"] is None:
            return {"reward": 0.0}
        reward = grade(order["namespaces"]["sample"], order["namespaces"]["item"])
        return {"reward": float(reward)}
    except MemoryError:
        return {"error": "MemoryError: the grader needs more memory than it may have"}
    except BaseException as exc:  # noqa: BLE001 - a grader may raise anything, SystemExit too
        return {"error": _described(exc)}


def _described(exc: BaseException) -> str:
    lines = [step.lineno for step in traceback.extract_tb(exc.__traceback__) if step.filename == "<grader>"]
    where = f" (line {lines[-1]} of the source)" if lines else ""
    return f"{type(exc).__name__}: {str(exc)[:500]}{where}"


main()
