"""A help page of `lorry` imports no command, and a command that asks a gateway imports no database."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Collection, Sequence
from typing import Final

import pytest

from gateway.cli import COMMANDS

HEAVY: Final = {
    "alembic",
    "engines",
    "fastapi",
    "hubs",
    "huggingface_hub",
    "modelscope_hub",
    "numpy",
    "peft",
    "ray",
    "sqlalchemy",
    "torch",
    "transformers",
    "uvicorn",
}
"""Top-level modules that no command which asks a gateway needs."""
READ_FOR_PLUGINS: Final = "packages-read-for-plugins"
"""Stands among the modules where pydantic has read the metadata of every installed package, which takes 50 ms."""
DEAR: Final = {
    READ_FOR_PLUGINS,
    "registry.contracts.job_spec",
    "registry.rollouts.rollout",
    "registry.types",
    "rich.live",
}
"""Modules of 8 to 60 ms, with what they import, that no command which shows the state of things needs."""
ABOUT_THIS_MACHINE: Final = {"doctor": {"engines"}, "envs": {"engines"}, "estimate": {"engines"}}
"""Commands that need no gateway, and what they may import of `HEAVY` when they are parsed."""
REPORT: Final = """
import io, json, os, sys
from contextlib import redirect_stderr, redirect_stdout, suppress
from gateway.cli import main
for words in json.loads(sys.argv[1]):
    if os.fork() == 0:
        with suppress(SystemExit), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            main(words)
        loader = sys.modules.get("pydantic.plugin._loader")
        read = [] if loader is None or loader._plugins is None else ["packages-read-for-plugins"]
        print(*sys.modules, *read, flush=True)
        os._exit(0)
    os.wait()
"""
"""Prints the modules that are imported after each of several commands, each in a copy of one fresh interpreter."""


def imported_by(*commands: Sequence[str]) -> list[set[str]]:
    """Return the modules that a process has imported after each of these words of `lorry`."""
    command = [sys.executable, "-c", REPORT, json.dumps(commands)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
    assert len(lines) == len(commands)
    return [set(line.split()) for line in lines]


def heavy(modules: Collection[str]) -> set[str]:
    return HEAVY & {module.split(".")[0] for module in modules}


def test_the_page_of_all_commands_imports_none_of_them() -> None:
    (modules,) = imported_by(["--help"])
    assert heavy(modules) == set()
    assert modules.isdisjoint({listed.module for listed in COMMANDS.values()} | {"httpx2"})


@pytest.mark.long
def test_parsing_a_command_imports_no_database_and_no_engine() -> None:
    for command, modules in zip(COMMANDS, imported_by(*([command, "--help"] for command in COMMANDS)), strict=True):
        assert heavy(modules) <= ABOUT_THIS_MACHINE.get(command, set()), command


@pytest.mark.long
def test_asking_a_gateway_imports_no_database_and_no_engine(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORRY_URL", url)
    asking = (["models", "list"], ["rollout", "status", "support"], ["keys", "list"], ["jobs", "list"], ["status"])
    for words, modules in zip(asking, imported_by(*asking), strict=True):
        assert heavy(modules) == set(), words
        assert modules & DEAR == set(), words
