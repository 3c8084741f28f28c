"""How far a start is: in a terminal a list that is rewritten, elsewhere a plain line for each change."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from typing import Final, Self

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

MODEL: Final = "base model"
"""The part that is the base model."""
RAY: Final = "Ray"
"""The part that is Ray's processes and what is deployed on them."""
REPEAT_S: Final = 10.0
"""Without a terminal, what a start still waits for is printed again after so many seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A part of Lorry on its way: what it does and since when, or its result and when that was there."""

    doing: str
    began_s: float
    detail: str = ""
    done_s: float | None = None


class StartProgress:
    """Shows the parts that a start waits for, with the seconds since the command began; used as a context manager."""

    def __init__(self, console: Console, launched_at: float | None = None, repeat_s: float = REPEAT_S) -> None:
        """*launched_at* is when the command began, by `time.monotonic`; None means now."""
        self._console = console
        self._began = time.monotonic() if launched_at is None else launched_at
        self._repeat_s = repeat_s
        self._parts: dict[str, _Part] = {}
        self._closed = threading.Event()
        # Standard output has the line that scripts wait for; it must not go through this console.
        self._live = (
            Live(console=console, get_renderable=self.table, redirect_stdout=False) if console.is_terminal else None
        )

    @property
    def seconds(self) -> float:
        """Seconds since the command began."""
        return time.monotonic() - self._began

    def begin(self, part: str, doing: str) -> None:
        """Show that *part* is *doing* something from now on."""
        before = self._parts.get(part)
        if before is not None and before.doing == doing and before.done_s is None:
            return
        self._parts = self._parts | {part: _Part(doing=doing, began_s=self.seconds)}
        if self._live is None:
            self.note(f"{part}: {doing}")

    def show_detail(self, part: str, detail: str) -> None:
        """Show how far the present step of *part* is."""
        self._parts = self._parts | {part: replace(self._parts[part], detail=detail)}

    def end(self, part: str, result: str = "ready") -> None:
        """Show that *part* is done, if it began."""
        present = self._parts.get(part)
        if present is None or present.done_s is not None:
            return
        self._parts = self._parts | {part: replace(present, doing=result, detail="", done_s=self.seconds)}
        if self._live is None:
            self.note(f"{part}: {result}")

    def close(self) -> None:
        """End the list, which stays as it is now."""
        self._closed.set()
        if self._live is not None:
            self._live.stop()

    def note(self, text: str) -> None:
        """Print *text* after the seconds so far."""
        self._console.print(f"{self.seconds:5.1f} s  {escape(text)}", style="dim", highlight=False, soft_wrap=True)

    def table(self) -> Table:
        """Return the list as it is now; a terminal asks for it several times a second."""
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column(justify="right", no_wrap=True, style="dim")
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for name, part in self._parts.items():
            if part.done_s is None:
                seconds = f"{self.seconds - part.began_s:.0f} s"
                table.add_row("...", escape(name), escape(f"{part.doing}{part.detail} ({seconds})"))
            else:
                table.add_row(f"{part.done_s:.1f} s", escape(name), escape(part.doing), style="green")
        return table

    def waiting_text(self) -> str:
        """Return what is waited for, and for how long: `Ray (starting, 8 s)`."""
        return "; ".join(
            f"{name} ({part.doing}{part.detail}, {self.seconds - part.began_s:.0f} s)"
            for name, part in self._parts.items()
            if part.done_s is None
        )

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        else:
            threading.Thread(target=self._repeat, name="start-progress", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _repeat(self) -> None:
        while not self._closed.wait(self._repeat_s):
            if waiting := self.waiting_text():
                self.note(f"still waiting for: {waiting}")
