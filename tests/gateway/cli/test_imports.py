"""A help page of `lorry` imports no command, and a command that asks a gateway imports no database."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Collection
from typing import Final

import pytest

from gateway.cli import COMMANDS

HEAVY: Final = {
    "alembic",
    "engines",
    "fastapi",
    "numpy",
    "peft",
    "ray",
    "sqlalchemy",
    "torch",
    "transformers",
    "uvicorn",
}
"""Top-level modules that no command which asks a gateway needs."""
ABOUT_THIS_MACHINE: Final = {"doctor": {"engines"}, "envs": {"engines"}, "estimate": {"engines"}}
"""Commands that need no gateway, and what they may import of `HEAVY` when they are parsed."""
REPORT: Final = """
import io, sys
from contextlib import redirect_stderr, redirect_stdout, suppress
from gateway.cli import main
with suppress(SystemExit), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
    main(sys.argv[1:])
print(*sys.modules)
"""


def imported_by(*words: str) -> set[str]:
    """The modules that a process has imported after `lorry` *words*."""
    command = [sys.executable, "-c", REPORT, *words]
    return set(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split())


def heavy(modules: Collection[str]) -> set[str]:
    return HEAVY & {module.split(".")[0] for module in modules}


def test_the_page_of_all_commands_imports_none_of_them() -> None:
    modules = imported_by("--help")
    assert heavy(modules) == set()
    assert modules.isdisjoint({listed.module for listed in COMMANDS.values()} | {"httpx2"})


@pytest.mark.parametrize("command", COMMANDS)
def test_parsing_a_command_imports_no_database_and_no_engine(command: str) -> None:
    assert heavy(imported_by(command, "--help")) <= ABOUT_THIS_MACHINE.get(command, set())


def test_asking_a_gateway_imports_no_database_and_no_engine(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORRY_URL", url)
    for words in (("models", "list"), ("rollout", "status", "support"), ("keys", "list"), ("jobs", "list")):
        assert heavy(imported_by(*words)) == set()
