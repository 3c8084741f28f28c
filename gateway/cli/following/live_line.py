"""Show the wait of a command: a line that is rewritten in a terminal, appended lines elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Self

from rich.console import Console, RenderableType
from rich.text import Text

if TYPE_CHECKING:
    from rich.live import Live
    from rich.spinner import Spinner

REPEAT_S: Final = 10.0
"""Without a terminal, what stays the same is printed again after so many seconds."""
_BAR_WIDTH: Final = 24


class LiveLine:
    """Shows what is waited for; used as a context manager. Lines that are printed meanwhile come above it."""

    def __init__(self, console: Console, repeat_s: float = REPEAT_S) -> None:
        self._console = console
        self._repeat_s = repeat_s
        self._what = ""
        self._printed_at = 0.0
        self._live = _live_on(console) if console.is_terminal else None
        self._spinner: Spinner | None = None

    def show(self, what: str, detail: str = "", part: float | None = None) -> None:
        """Show *what* is waited for, how far that is, and a bar with a *part* from 0 to 1."""
        text = f"{what}{detail}"
        if self._live is not None:
            self._live.update(self._row(text, part))
            return
        now = time.monotonic()
        if what != self._what or now - self._printed_at >= self._repeat_s:
            self._what, self._printed_at = what, now
            self.print(f"{time.strftime('%H:%M:%S')}  {text}")

    def print(self, text: str, style: str = "") -> None:
        """Print a line that stays."""
        self._console.print(Text(text, style), soft_wrap=True)

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def _row(self, text: str, part: float | None) -> RenderableType:
        from rich.progress_bar import ProgressBar
        from rich.spinner import Spinner
        from rich.table import Table

        self._spinner = self._spinner or Spinner("dots")  # kept, as it turns by the time since it began
        row = Table.grid(padding=(0, 1))
        self._spinner.update(text=Text(text))
        if part is None:
            row.add_row(self._spinner)
        else:
            row.add_row(self._spinner, ProgressBar(total=1.0, completed=part, width=_BAR_WIDTH))
        return row


def _live_on(console: Console) -> Live:
    """Return the line of a terminal; its modules cost 8 ms, and commands that wait for nothing do without."""
    from rich.live import Live

    # Standard output is for data: what is printed there meanwhile must not go through this console.
    return Live(console=console, transient=True, redirect_stdout=False)
