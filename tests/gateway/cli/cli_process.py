"""The `lorry` command as a child process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

COMMAND = [sys.executable, "-c", "from gateway.cli import main; main()"]


def environment(url: str, **variables: str) -> Mapping[str, str]:
    """What a command is started with to talk to *url*; a wide terminal."""
    return os.environ | {"LORRY_URL": url, "COLUMNS": "200", "PYTHONUNBUFFERED": "1"} | variables


def lorry(url: str, *words: str, code: int = 0, **variables: str) -> str:
    """What the command says, with *variables* in its environment; an assertion fails unless it exits with *code*."""
    command, about = [*COMMAND, *words], environment(url, **variables)
    told = subprocess.run(command, capture_output=True, text=True, env=about, check=False, timeout=60)
    assert told.returncode == code, told.stdout + told.stderr
    return told.stdout if code == 0 else told.stderr
