"""Load tests of a quantized folder on kinds of engines, by a program of the engines' own package."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from time import time

from registry.contracts.quantizations.load_test_result import LoadTestResult, hindrances
from registry.settings import lorry_home
from trainer.errors import JobFailed
from trainer.quantizing.tool_process import TRIES_ENGINES, tool_at_work


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialOrder:
    """The order for `engines.proving.trial_program`."""

    kinds: tuple[str, ...]
    checkpoint: str
    """The quantized folder."""
    original: str
    """The folder that it was made from, with the adapter that was merged."""
    home: str
    logs: str
    threads: int
    parent_pid: int


def load_tests(  # noqa: PLR0913  folders, engines, and the caller's two questions
    kinds: tuple[str, ...],
    checkpoint: Path,
    original: Path,
    attempt_folder: Path,
    threads: int,
    note: Callable[[LoadTestResult], None],
    stop_asked: Callable[[], bool],
) -> dict[str, LoadTestResult] | None:
    """Return kind of engine -> what became of the folder there; None where the job is asked to stop.

    `JobFailed` where the model in full precision is served by no engine here.
    """
    order = TrialOrder(
        kinds=kinds,
        checkpoint=str(checkpoint),
        original=str(original),
        home=str(lorry_home()),
        logs=str(attempt_folder),
        threads=threads,
        parent_pid=os.getpid(),
    )
    path = attempt_folder / "load-test-order.json"
    path.write_text(json.dumps(asdict(order)))
    found: dict[str, LoadTestResult] = {}
    with tool_at_work(Path(sys.executable), TRIES_ENGINES, path, threads) as program:
        for message in program.messages():
            if stop_asked():
                return None
            if message is not None and message.kind == "tried":
                result = LoadTestResult.model_validate({**message.data, "at": time()})
                found[result.kind] = result
                note(result)
    return found


def check_passed(results: dict[str, LoadTestResult]) -> None:
    """Raise `JobFailed` where an engine's result speaks against the checkpoint."""
    if against := hindrances(results):
        raise JobFailed(
            "load_test_failed",
            f"{'; '.join(each.sentence for each in against)}; nothing was published. "
            "waive with load-test publishes it nevertheless",
            "pools",
        )
