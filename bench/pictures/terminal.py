"""A command's output in a terminal as an SVG picture.

    python -m bench.pictures.terminal --out FILE.svg [--columns 100] COMMAND...

The command runs in a pseudo terminal, so it prints what it prints for people, colours included. The picture names no
font of another site.
"""

from __future__ import annotations

import argparse
import fcntl
import io
import os
import pty
import re
import shlex
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROWS = 60


def main() -> None:
    """Run the command and write the picture."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--columns", type=int, default=100)
    parser.add_argument("command", nargs="+")
    asked = parser.parse_args()
    asked.out.write_text(picture(asked.command, asked.columns))


def picture(command: Sequence[str], columns: int, environment: Mapping[str, str] | None = None) -> str:
    """Return the SVG of what *command* prints in a terminal of *columns*, below the line that was typed."""
    shown = shown_in_terminal(command, columns, environment)
    console = Console(record=True, width=columns, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text(f"$ {shlex.join(command)}", style="bold"))
    console.print(Text.from_ansi(shown.rstrip()))
    made = console.export_svg(title=shlex.join(command))
    return re.sub(r"\s*@font-face \{.*?\}", "", made, flags=re.DOTALL)


def shown_in_terminal(command: Sequence[str], columns: int, environment: Mapping[str, str] | None = None) -> str:
    """Return what *command* prints on a terminal of *columns*."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))
    variables = os.environ | {"TERM": "xterm-256color", "COLUMNS": str(columns)} | dict(environment or {})
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=variables):
        os.close(theirs)
        parts = []
        with suppress(OSError):  # Linux reports the end of the other side as an error
            while part := os.read(ours, 65536):
                parts.append(part)
    os.close(ours)
    return b"".join(parts).decode().replace("\r\n", "\n")


if __name__ == "__main__":
    main()
