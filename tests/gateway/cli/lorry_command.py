"""The `lorry` command, run in this process; as a child process where a test is about the process."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout

import pytest

from gateway.cli import main

COMMAND = [sys.executable, "-c", "from gateway.cli import main; main()"]
"""The command as a child process, without its words."""


def environment(url: str, **variables: str) -> Mapping[str, str]:
    """The environment of a child that talks to *url*; a wide terminal."""
    return os.environ | {"LORRY_URL": url, "COLUMNS": "200", "PYTHONUNBUFFERED": "1"} | variables


def lorry(url: str, *words: str, code: int = 0, **variables: str) -> str:
    """Run the command against *url*; return what it prints, on standard error where *code* says that it fails.

    *variables* are in its environment. An assertion fails unless it exits with *code*.
    """
    output, errors = run_lorry(*words, LORRY_URL=url, code=code, **variables)
    return errors if code else output


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        """True."""
        return True


def lorry_at_terminal(url: str, columns: int, *words: str, code: int = 0, **variables: str) -> tuple[list[str], str]:
    """Run the command at a terminal of so many columns; return the lines of its output, and its remarks."""
    size = {"COLUMNS": str(columns), "LINES": "50", "TERM": "dumb", "LORRY_URL": url}
    output, errors = _run(words, code, Terminal(), size | variables)
    return output.splitlines(), errors


def run_lorry(*words: str, code: int = 0, **variables: str) -> tuple[str, str]:
    """Run the command; return what it prints on both streams. An assertion fails unless it exits with *code*."""
    return _run(words, code, io.StringIO(), {"COLUMNS": "200", **variables})


def _run(words: Sequence[str], code: int, stdout: io.StringIO, variables: Mapping[str, str]) -> tuple[str, str]:
    with pytest.MonkeyPatch.context() as patched, redirect_stdout(stdout) as output:
        for name, value in variables.items():
            patched.setenv(name, value)
        with redirect_stderr(io.StringIO()) as errors, pytest.raises(SystemExit) as ended:
            main(words)
    assert (ended.value.code or 0) == code, output.getvalue() + errors.getvalue()
    return output.getvalue(), errors.getvalue()
