"""Tokens per processor second and memory of the transformers engine with quantized folders beside a full one.

    python bench/engine/quantized_speed.py FOLDER QUANTIZED ... [--rounds 3]

All folders are loaded in one process with one thread; rounds go over them in turn, forwards and backwards, and medians
are printed: decoding 1 and 16 sequences (prompts of some 25 tokens included), and reading a prompt of 400 tokens. The
memory is that of a process of its own with the model loaded.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import psutil
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from engines.transformers.__main__ import return_freed_memory
from engines.transformers.model import LoadedModel, ModelRunner, load_model
from engines.transformers.sampling import SamplingParams, choose, chooser
from engines.transformers.scheduler import Scheduler
from engines.transformers.sequence import Sequence
from engines.transformers.text import TextStream

STEP_TOKENS: Final = 128
LONG: Final = 400
CASES: Final = {"1 sequence": (1, 25, 32), "16 sequences": (16, 25, 32), "prompt of 400": (1, LONG, 1)}
"""Case -> sequences, tokens of a prompt, tokens of an answer."""


def main() -> None:
    """Print a row for each folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", action="store_true", help="load one folder and print the memory of this process")
    options = parser.parse_args()
    torch.set_num_threads(1)
    loaded = {folder: load_model(folder, slots=16, max_context=512) for folder in options.folders}
    if options.memory:
        return_freed_memory()
        sys.stdout.write(f"{psutil.Process().memory_info().rss}\n")
        return
    found: dict[tuple[Path, str], list[float]] = {}
    for number in range(-1, options.rounds):  # the first round warms up
        for folder in options.folders if number % 2 == 0 else options.folders[::-1]:
            for case, sizes in CASES.items():
                speed = measured(loaded[folder], *sizes)
                if number >= 0:
                    found.setdefault((folder, case), []).append(speed)
    sys.stdout.write(f"| folder | {' | '.join(CASES)} | MB |\n")
    for folder in options.folders:
        speeds = [f"{statistics.median(found[folder, case]):.1f}" for case in CASES]
        sys.stdout.write(f"| {folder.name} | {' | '.join(speeds)} | {memory_of(folder) / 1e6:.0f} |\n")


def measured(loaded: LoadedModel, count: int, prompt: int, answer: int) -> float:
    """Return tokens per processor second: those of answers, or of the prompt where it is long."""
    runner, scheduler = ModelRunner(loaded), Scheduler(slots=16, max_step_tokens=STEP_TOKENS)
    for at in range(count):
        tokens = [(37 * at + 11 * place) % 20_000 + 100 for place in range(prompt)]
        scheduler.add(
            Sequence(
                tokens=tokens,
                adapter=0,
                limit=answer,
                chooser=chooser(SamplingParams(temperature=0, top_logprobs=0), 0),
                text=TextStream(loaded.codec, []),
                end_tokens=frozenset(),
                deliver=lambda news: None,
                arrived_at=0.0,
                scores=None,
            )
        )
    began = time.process_time()
    while (plan := scheduler.plan()) is not None:
        rows, logits = runner.step(plan, lambda: False)
        for row, choice in zip(rows, choose(logits, [row.sequence.chooser for row in rows]), strict=True):
            delta = row.sequence.accept(choice)
            if delta is not None and delta.finish is not None:
                scheduler.release(row.sequence)
    seconds = time.process_time() - began
    return (prompt if answer == 1 else count * answer) / seconds


def memory_of(folder: Path) -> int:
    """Return the resident bytes of a process that has loaded the model in *folder*."""
    command = [sys.executable, __file__, str(folder), "--memory"]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


if __name__ == "__main__":
    main()
