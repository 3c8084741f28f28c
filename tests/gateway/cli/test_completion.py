"""A shell completes commands, options and the names that the gateway knows, and is silent where there is no gateway."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.settings import GatewaySettings
from registry.database import Registry
from tests.gateway.cli.lorry_command import run_lorry
from tests.gateway.served import ServedGateway

NOWHERE = "http://127.0.0.1:1"
ASK = """
{script}
COMP_LINE={line!r} COMP_POINT={point}
_lorry_completion lorry
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture
def lorry_on_the_path(tmp_path: Path) -> str:
    """A folder with the command `lorry` in it."""
    program = tmp_path / "lorry"
    program.write_text(f"#!/bin/sh\nexec {sys.executable} -c 'from gateway.cli import main; main()' \"$@\"\n")
    program.chmod(0o755)
    return f"{tmp_path}:{os.environ['PATH']}"


def completed(line: str, path: str, url: str) -> list[str]:
    """The words that bash puts in place of the word at the end of *line*."""
    script = ASK.format(script=run_lorry("completion", "bash")[0], line=line, point=len(line))
    run = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env=os.environ | {"PATH": path, "LORRY_URL": url},
    )
    assert run.stderr == ""
    return run.stdout.split()


@pytest.mark.long
def test_bash_completes_commands_options_and_names(two_revisions: Registry, lorry_on_the_path: str) -> None:
    with ServedGateway(GatewaySettings(), two_revisions) as served:
        url = f"http://127.0.0.1:{served.port}"
        assert completed("lorry ro", lorry_on_the_path, url) == ["rollout", "rollback"]
        assert completed("lorry rollout start --ste", lorry_on_the_path, url) == ["--steps"]
        assert completed("lorry rollback s", lorry_on_the_path, url) == ["support"]
        # bash has taken `support@` for words of their own: what is given back is the rest.
        assert completed("lorry rollout start support@", lorry_on_the_path, url) == ["1", "2"]
        assert completed("lorry train sft --model ti", lorry_on_the_path, url) == ["tiny"]


@pytest.mark.long
def test_without_a_gateway_commands_are_completed_and_names_are_not(lorry_on_the_path: str) -> None:
    assert completed("lorry adap", lorry_on_the_path, NOWHERE) == ["adapters"]
    assert completed("lorry rollback s", lorry_on_the_path, NOWHERE) == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_has_a_script(shell: str) -> None:
    script, errors = run_lorry("completion", shell)
    assert errors == ""
    assert "_LORRY_COMPLETE" in script


def test_an_unknown_shell_is_named() -> None:
    assert "'bash', 'zsh', 'fish'" in run_lorry("completion", "tcsh", code=2)[1]
