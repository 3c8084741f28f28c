"""How the answers of one turn appear: as they come, beside each other in a terminal, one after the other elsewhere."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Final

from gateway.cli.operating.streamed import Answer
from gateway.cli.output import show_json, stdout_console

Show = Callable[[Sequence[Answer]], None]
_DRAWN_EVERY_S: Final = 0.1
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Control characters but for tab and newline."""


def shown(models: Sequence[str], *, as_json: bool) -> AbstractContextManager[Show]:
    """Yield what shows the answers of *models* whenever more of them is there; at the end all of them is shown."""
    if as_json:
        return _as_document()
    if len(models) == 1:
        return _as_it_comes()
    return _side_by_side() if sys.stdout.isatty() else _one_after_the_other()


def _shown_text(text: str) -> str:
    """Return *text* for standard output: a terminal gets no control characters, by which a model could steer it."""
    return _CONTROL.sub("", text) if sys.stdout.isatty() else text


@contextmanager
def _as_it_comes() -> Iterator[Show]:
    written = 0

    def show(answers: Sequence[Answer]) -> None:
        nonlocal written
        sys.stdout.write(_shown_text(answers[0].text[written:]))
        sys.stdout.flush()
        written = len(answers[0].text)

    yield show
    if written:
        sys.stdout.write("\n")
        sys.stdout.flush()


@contextmanager
def _side_by_side() -> Iterator[Show]:
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

    def drawn(answers: Sequence[Answer]) -> Table:
        table = Table(box=None, pad_edge=False, expand=True)
        for answer in answers:
            table.add_column(answer.revision or answer.model, ratio=1, overflow="fold", header_style="bold")
        table.add_row(*(Text(_shown_text(answer.text)) for answer in answers))
        return table

    latest: Sequence[Answer] = ()
    drawn_at = 0.0
    with Live(console=stdout_console(), auto_refresh=False, vertical_overflow="visible") as live:

        def show(answers: Sequence[Answer]) -> None:
            nonlocal latest, drawn_at
            latest = answers
            if time.monotonic() - drawn_at >= _DRAWN_EVERY_S:
                live.update(drawn(answers), refresh=True)
                drawn_at = time.monotonic()

        yield show
        if latest:
            live.update(drawn(latest), refresh=True)


@contextmanager
def _one_after_the_other() -> Iterator[Show]:
    latest: Sequence[Answer] = ()

    def show(answers: Sequence[Answer]) -> None:
        nonlocal latest
        latest = answers

    yield show
    for number, answer in enumerate(latest):
        sys.stdout.write(f"{chr(10) if number else ''}== {answer.model} ==\n{answer.text}\n")


@contextmanager
def _as_document() -> Iterator[Show]:
    latest: Sequence[Answer] = ()

    def show(answers: Sequence[Answer]) -> None:
        nonlocal latest
        latest = answers

    yield show
    show_json([_fields_of(answer) for answer in latest])


def _fields_of(answer: Answer) -> dict[str, str | int | None]:
    return {
        "model": answer.model,
        "revision": answer.revision,
        "replica": answer.replica,
        "content": answer.text,
        "finish_reason": answer.finish_reason,
        "completion_tokens": answer.tokens,
        "error": answer.error,
    }
