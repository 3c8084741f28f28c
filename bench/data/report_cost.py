"""Measure the report on a large training file: time by phase, processor time and peak memory.

    python bench/data/report_cost.py [--rows 100000] [--seed 7] [--model FOLDER] [--processes 2] [--phases]

The rows are chats that are drawn by the seed from a vocabulary of 20,000 words: a twentieth repeats an earlier row with
a word or none changed, some have an address or a key. `--model` counts tokens by that model, without it four bytes are
one. Memory is that of all processes, by what each page is shared with (PSS), looked at once a second. `--phases` adds
the seconds of a process that each kind of finding takes for 1,000 rows, from 4,000 of them.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[2]))

import psutil

from corpus.chat_tokens import TokenCounter
from corpus.chunk import Looker
from corpus.examination import Wishes, examine, formats_of
from corpus.findings.languages import LanguageFinder
from corpus.findings.personal import PersonalFinder
from corpus.findings.shingles import plain, signatures_of
from corpus.row_view import view_of
from registry.contracts.training_file import filled_lines
from registry.contracts.training_formats import LineParser

MOST_S: Final = 60.0
MOST_MB: Final = 1000.0
SAMPLED: Final = 4000
VOWELS: Final = "aeiou"
CONSONANTS: Final = "bcdfghklmnprstvw"


def main() -> None:
    """Print one line of JSON; exit code 1 if 100,000 rows took more than 60 s or 1 GB."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--processes", type=int)
    parser.add_argument("--phases", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        size = _write_rows(path, asked.rows, asked.seed)
        wishes = Wishes(model=asked.model, model_name="measured", processes=asked.processes)
        began, used = time.monotonic(), _processor_s()
        with _peak_mb() as peak:
            report = examine(path, wishes)
        found = {
            "rows": report.rows,
            "file_mb": round(size / 2**20, 1),
            "tokens": round(report.tokens.spread.total),
            "wall_s": round(time.monotonic() - began, 1),
            "processor_s": round(_processor_s() - used, 1),
            "peak_mb": round(max(peak)),
        }
        print(json.dumps(found | (_phases(path, asked.model) if asked.phases else {})), flush=True)
    if asked.rows == 100_000 and (found["wall_s"] > MOST_S or found["peak_mb"] > MOST_MB):
        raise SystemExit(f"more than {MOST_S:g} s or {MOST_MB:g} MB")


def _write_rows(path: Path, rows: int, seed: int) -> int:
    draw = random.Random(seed)
    words = ["".join(_syllables(draw)) for _ in range(20_000)]
    earlier: list[tuple[list[str], list[str]]] = []
    with path.open("w", encoding="utf-8") as file:
        for at in range(rows):
            if earlier and draw.random() < 0.05:
                asked, said = draw.choice(earlier)
                said = [draw.choice(words) if draw.random() < 0.01 else word for word in said]
            else:
                asked, said = _sentence(draw, words, 12, 40), _sentence(draw, words, 40, 120)
            if len(earlier) < 2000:
                earlier.append((asked, said))
            extra = f" Write to person{at}@shop{at % 97}.com." if draw.random() < 0.02 else ""
            messages = [
                {"role": "system", "content": "You answer for a shop that sells teapots."},
                {"role": "user", "content": " ".join(asked).capitalize() + "?" + extra},
                {"role": "assistant", "content": " ".join(said).capitalize() + "."},
            ]
            file.write(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")
    return path.stat().st_size


def _syllables(draw: random.Random) -> Iterator[str]:
    for _ in range(draw.randint(1, 4)):
        yield draw.choice(CONSONANTS) + draw.choice(VOWELS)


def _sentence(draw: random.Random, words: list[str], least: int, most: int) -> list[str]:
    chosen = draw.choices(words, k=draw.randint(least, most))
    return [word + "." if place % 11 == 10 else word for place, word in enumerate(chosen)]


def _phases(path: Path, model: Path | None) -> dict[str, float]:
    """Return the seconds of one process for 1,000 rows, by kind of finding."""
    formats = formats_of(path)
    with path.open("rb") as file:
        part = [numbered for numbered, _ in zip(filled_lines(file), range(SAMPLED), strict=False)]
    parser = LineParser(formats)
    taken: dict[str, float] = {}

    @contextmanager
    def phase(name: str) -> Iterator[None]:
        began = time.process_time()
        yield
        taken[f"{name}_s"] = round((time.process_time() - began) * 1000 / len(part), 3)

    with phase("parse"):
        rows = [parser.parse(line, number) for number, line in part]
    views = [view_of(row) for row in rows]
    if model is not None:
        counter = TokenCounter(model)
        with phase("tokens"):
            counter.count(rows)
    with phase("signatures"):
        signatures_of([plain(view.text) for view in views])
    languages, personal = LanguageFinder(), PersonalFinder()
    languages.language("A first text, so that the model is there.")
    with phase("languages"):
        for view in views:
            languages.language(f"{view.last_answer[:70]} {view.prompt[-50:]}")
    personal.find("")
    with phase("personal"):
        for view in views:
            personal.find(view.text)
    with phase("all"):
        Looker(formats=formats, model=model).look(part)
    return taken


def _processor_s() -> float:
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(used.ru_utime + used.ru_stime for used in both)


@contextmanager
def _peak_mb() -> Iterator[list[float]]:
    """Provide a list to which the memory of this process and its children is added again and again."""
    found, stop = [0.0], threading.Event()

    def look() -> None:
        while not stop.wait(1.0):
            me = psutil.Process()
            found.append(sum(map(_pss_mb, [me, *me.children(recursive=True)])))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()


def _pss_mb(process: psutil.Process) -> float:
    try:
        return float(process.memory_full_info().pss) / 2**20
    except psutil.Error:  # it has ended
        return 0.0


if __name__ == "__main__":
    main()
