"""How far a start is: a live line in a terminal, a plain line for each step elsewhere."""

from __future__ import annotations

import time
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.status import Status


class StartProgress:
    """Shows the step that a start waits for, with the seconds since it began; used as a context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._step = ""
        self._detail = ""
        self._live = Status(self, console=console) if console.is_terminal else None

    @property
    def seconds(self) -> float:
        """Seconds since the start began."""
        return time.monotonic() - self._began

    def begin(self, step: str) -> None:
        """Show *step* from now on; the one before is done."""
        self._end_step()
        self._step, self._detail = step, ""
        if self._live is None:
            self.note(step)

    def show_detail(self, detail: str) -> None:
        """Show in a terminal how far the present step is."""
        self._detail = detail

    def close(self) -> None:
        """End the live line; the last step is not reported as done."""
        self._step = ""
        if self._live is not None:
            self._live.stop()

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __rich__(self) -> str:
        """The live line; rich asks for it several times a second."""
        return escape(f"{self._step}{self._detail} ({self.seconds:.0f} s)")

    def _end_step(self) -> None:
        if self._live is not None and self._step:
            self.note(f"{self._step}: done")
        self._step = ""

    def note(self, text: str) -> None:
        """Print *text* after the seconds so far."""
        self._console.print(f"{self.seconds:5.1f} s  {escape(text)}", style="dim", highlight=False, soft_wrap=True)
