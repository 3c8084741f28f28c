"""Looks through a training file in parts, in several processes where it is large, and makes the report."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from typing import Final

from corpus.chunk import ChunkFindings, Looker
from corpus.errors import CorpusError, SourceRefused
from corpus.findings_joined import Joined
from corpus.report import FileFacts, Report
from corpus.reporting import ReportWishes, leaks_between, report_on
from registry.contracts.training_file import filled_lines
from registry.contracts.training_formats import CHATS, MARKED, PROMPTS, LineFormat, TrainingLine
from registry.contracts.training_json import parse_object
from registry.contracts.uploads.training_upload import check_line_lengths
from registry.errors import TrainingFileInvalid

PART_LINES: Final = 2000
_PART_BYTES: Final = 4 << 20
_ALONE_BYTES: Final = 2 << 20
"""A smaller file is looked through in this process: starting others would take longer."""
_DEFAULT_MAX_LENGTH: Final = 1024

Part = list[tuple[int, bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """How a file is looked at."""

    model: Path | None = None
    """Folder of the base model whose tokenizer counts."""
    model_name: str | None = None
    max_length: int = _DEFAULT_MAX_LENGTH
    validation: Path | None = None
    seed: int | None = None
    """Draws the rows for review; without one it follows from the file's bytes."""
    processes: int | None = None


def examine(path: Path, wishes: Wishes, name: str | None = None) -> Report:
    """Return the report on the file at *path*; `SourceRefused` if it cannot be read or has no training lines."""
    began = time.monotonic()
    digest, size = _digest(path)
    formats = formats_of(path)
    looker = Looker(formats=formats, model=wishes.model)
    joined = _look_through(path, looker, wishes)
    leaks = None
    if wishes.validation is not None:
        _digest(wishes.validation)
        beside = Looker(formats=formats_of(wishes.validation), model=None, only_repeats=True)
        leaks = leaks_between(joined, _look_through(wishes.validation, beside, wishes), wishes.validation.name)
    facts = FileFacts(name=name or path.name, bytes=size, sha256=digest)
    return report_on(
        joined,
        path,
        ReportWishes(
            file=facts,
            model=wishes.model,
            model_name=wishes.model_name,
            max_length=wishes.max_length,
            seed=wishes.seed,
            leaks=leaks,
            began=began,
        ),
    )


def formats_of(path: Path) -> tuple[LineFormat[TrainingLine], ...]:
    """Return the format that the first readable line of the file shows; `SourceRefused` without one."""
    try:
        with path.open("rb") as file:
            check_line_lengths(file)
            file.seek(0)
            for number, line in filled_lines(file):
                try:
                    fields = parse_object(line, f"line {number}")
                except TrainingFileInvalid:
                    continue
                return (_format_of(fields),)
    except OSError as exc:
        raise SourceRefused(f"{path}: {exc.strerror}") from exc
    except TrainingFileInvalid as exc:
        raise SourceRefused(f"{path}: {exc}") from exc
    raise SourceRefused(f"{path}: has no line that is a JSON object; `lorry data convert` reads JSON, CSV and Parquet")


def _format_of(fields: object) -> LineFormat[TrainingLine]:
    assert isinstance(fields, dict)  # noqa: S101 - `parse_object` returns nothing else
    marked = next((entry for entry in MARKED if not entry.marks.isdisjoint(fields)), None)
    if marked is not None:
        return marked
    messages = fields.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    return PROMPTS if isinstance(last, dict) and last.get("role") == "user" else CHATS


def _digest(path: Path) -> tuple[str, int]:
    found, size = sha256(), 0
    try:
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                found.update(piece)
                size += len(piece)
    except OSError as exc:
        raise SourceRefused(f"{path}: {exc.strerror}") from exc
    return found.hexdigest(), size


def _look_through(path: Path, looker: Looker, wishes: Wishes) -> Joined:
    joined = Joined()
    processes = wishes.processes or max(1, len(os.sched_getaffinity(0)))
    with path.open("rb") as file:
        parts = _parts(file)
        found = (
            map(looker.look, parts)
            if processes == 1 or path.stat().st_size < _ALONE_BYTES
            else _look_together(looker, parts, processes)
        )
        for findings in found:
            joined.add(findings)
    return joined.whole()


def _parts(lines: Iterable[bytes]) -> Iterator[Part]:
    part: Part = []
    size = 0
    for numbered in filled_lines(lines):
        part.append(numbered)
        size += len(numbered[1])
        if len(part) >= PART_LINES or size >= _PART_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def _look_together(looker: Looker, parts: Iterator[Part], processes: int) -> Iterator[ChunkFindings]:
    """Yield the findings of the parts in their order; no more parts are in memory than processes can begin with."""
    environment = "TOKENIZERS_PARALLELISM"
    before = os.environ.get(environment)
    os.environ[environment] = "false"  # each process uses one processor; the children inherit it
    try:
        pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_begin, initargs=(looker,))
        with pool:
            waiting: deque[Future[ChunkFindings]] = deque()
            for part in parts:
                waiting.append(pool.submit(_look, part))
                if len(waiting) > 2 * processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
    except BrokenProcessPool as exc:
        raise CorpusError("a process that looked at the file ended; memory may have run out") from exc
    finally:
        if before is None:
            del os.environ[environment]
        else:
            os.environ[environment] = before


_LOOKERS: Final[list[Looker]] = []
"""In a child process the looker that it was given: parts arrive by a function of the module."""


def _begin(looker: Looker) -> None:
    _LOOKERS[:] = [looker]


def _look(part: Sequence[tuple[int, bytes]]) -> ChunkFindings:
    return _LOOKERS[0].look(part)
