"""Measure light jobs side by side in one process, in a process each at once, and one after the other.

    python bench/training/beside.py BASE [--jobs 1 2 4 8] [--steps 12] [--ways beside at-once in-turn] [--join]

BASE is the folder of a base model. The jobs are supervised and DPO in turn, of ranks 8, 16 and 4, with batch 1 and one
thread a process, and are all queued before the first begins. The workers run in this process; what is counted is their
children. Processor seconds and memory are those of the children, the memory by what each page is shared with (PSS).
`--join` measures in place of this how long a job takes from its claim to the report of its first step: one that starts
the process, one that finds it idle with its base loaded, and one that joins another at work.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[2]))

import psutil

from gateway.openai.job_request import build_spec
from gateway.openai.types import CreateJob
from registry.artifacts import folder_digest
from registry.database import Registry, open_registry
from registry.disk import Liveness
from registry.jobs.job import Job
from registry.jobs.job_state import JobState
from registry.schema import migrate
from registry.settings import RegistrySettings
from registry.types import Base
from trainer.settings import TrainerSettings
from trainer.worker import Worker

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
FILES: Final = {"supervised": "support.jsonl", "dpo": "pairs.jsonl"}
RANKS: Final = (8, 16, 4)
WAYS: Final[Mapping[str, tuple[bool, bool]]] = {
    "beside": (True, False),
    "at-once": (False, True),
    "in-turn": (False, False),
}
"""Way -> whether jobs share a process, and whether each has a worker of its own."""


def main() -> None:
    """Print a line of JSON for each number of jobs and each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=[*WAYS])
    parser.add_argument("--join", action="store_true")
    asked = parser.parse_args()
    if asked.join:
        with tempfile.TemporaryDirectory() as home:
            print(json.dumps({"way": "join"} | _join(Path(home), asked.base, asked.steps)))
        return
    for count, way in itertools.product(asked.jobs, asked.ways):
        with tempfile.TemporaryDirectory() as home:
            found = _measure(Path(home), asked.base, count, asked.steps, way)
        print(json.dumps({"jobs": count, "way": way} | found), flush=True)


def _measure(home: Path, base: Path, count: int, steps: int, way: str) -> dict[str, float]:
    shares, at_once = WAYS[way]
    registry = _registry(home, base)
    jobs = [_queue(registry, number, steps) for number in range(count)]
    settings = TrainerSettings(work=home / "jobs", nice=0, poll_s=0.2, light_jobs=max(2, count) if shares else 1)
    stop = threading.Event()
    workers = [Worker(registry, settings, f"w{at}", Liveness(home, f"w{at}")) for at in range(count if at_once else 1)]
    threads = [threading.Thread(target=worker.run, args=(stop,)) for worker in workers]
    used, peak = _processor_s(), 0.0
    for thread in threads:
        thread.start()
    while not all(registry.jobs.get(job.id).state.is_terminal for job in jobs):
        peak = max(peak, sum(map(_pss_mb, psutil.Process().children(recursive=True))))
        time.sleep(0.2)
    stop.set()
    for thread in threads:
        thread.join()
    found = _summary(registry, [registry.jobs.get(job.id) for job in jobs], _processor_s() - used)
    registry.close()
    return found | {"peak_mb": round(peak)}


def _join(home: Path, base: Path, steps: int) -> dict[str, float]:
    """Return the seconds from claim to first step of jobs that find no process, an idle one, and a busy one."""
    registry = _registry(home, base)
    settings = TrainerSettings(work=home / "jobs", nice=0, poll_s=0.2, light_jobs=2)
    stop, found = threading.Event(), dict[str, float]()
    worker = threading.Thread(target=Worker(registry, settings, "w", Liveness(home, "w")).run, args=(stop,))
    worker.start()
    try:
        first = _queue(registry, 0, steps)
        _await(lambda: registry.jobs.get(first.id).state.is_terminal)
        busy = _queue(registry, 2, 4 * steps)
        _await(lambda: _steps(registry, busy))
        joining = _queue(registry, 1, steps)
        _await(lambda: registry.jobs.get(joining.id).state.is_terminal)
        for name, job in {"starts_s": first, "idle_s": busy, "joins_s": joining}.items():
            claimed_at = registry.jobs.get(job.id).started_at or 0.0
            found[name] = round(min(event.at for event in _steps(registry, job)) - claimed_at, 2)
        registry.jobs.request_cancel(busy.id, "bench")
        _await(lambda: registry.jobs.get(busy.id).state.is_terminal)
    finally:
        stop.set()
        worker.join()
        registry.close()
    return found


def _await(is_true: Callable[[], object]) -> None:
    while not is_true():
        time.sleep(0.05)


def _summary(registry: Registry, jobs: Sequence[Job], processor_s: float) -> dict[str, float]:
    failed = [job.error for job in jobs if job.state is not JobState.SUCCEEDED]
    if failed:
        raise SystemExit(f"jobs failed: {failed}")
    tokens = sum(job.trained_tokens or 0 for job in jobs)
    begins = [min(event.at for event in _steps(registry, job)) - job.created_at for job in jobs]
    return {
        "tokens": tokens,
        "processor_s": round(processor_s, 1),
        "tokens_per_processor_s": round(tokens / processor_s, 1),
        "mean_finish_s": round(mean((job.finished_at or 0.0) - job.created_at for job in jobs), 1),
        "mean_first_step_s": round(mean(begins), 1),
    }


def _steps(registry: Registry, job: Job) -> list[Any]:
    return [event for event in registry.jobs.events(job.id, limit=1000) if event.type == "metrics"]


def _registry(home: Path, base: Path) -> Registry:
    url = f"sqlite:///{home / 'registry.db'}"
    migrate(url)
    registry = open_registry(RegistrySettings(url=url, artifacts=home / "artifacts"))
    registry.bases.enter(
        Base(name="base", path=str(base), digest=folder_digest(base), licence="", created_at=time.time())
    )
    return registry


def _queue(registry: Registry, number: int, steps: int) -> Job:
    method = ("supervised", "dpo")[number % 2]
    lines = (EXAMPLES / FILES[method]).read_bytes().splitlines(keepends=True)[number : number + steps]
    file = registry.files.add(lines, filename=FILES[method], purpose="fine-tune", owner="bench")
    own = {"n_epochs": 1, "batch_size": 1, "lora_rank": RANKS[number % len(RANKS)]}
    request = {"model": "base", "training_file": file.id, "suffix": f"bench-{number}", "seed": number}
    asked = CreateJob.model_validate({**request, "method": {"type": method, method: {"hyperparameters": own}}})
    return registry.jobs.create(build_spec(asked, registry), "bench")


def _processor_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _pss_mb(process: psutil.Process) -> float:
    try:
        return float(process.memory_full_info().pss) / 2**20
    except psutil.Error:  # it has ended
        return 0.0


if __name__ == "__main__":
    main()
