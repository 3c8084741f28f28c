"""The unit of systemd as systemd reads it."""

from __future__ import annotations

import configparser
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.deploy.lint_tools import DEPLOY
from tests.pages import ROOT

UNIT = DEPLOY / "systemd" / "lorry.service"
INSTALLED = "/opt/lorry/.venv/bin/lorry"
pytestmark = pytest.mark.deploy


def verified(folder: Path, text: str) -> str:
    """Return what systemd has against the unit, with a program that is here in place of an installed Lorry."""
    path = folder / UNIT.name
    path.write_text(text.replace(INSTALLED, sys.executable))
    command = ["systemd-analyze", "verify", "--man=no", str(path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return ended.stdout + ended.stderr


def test_systemd_finds_nothing_in_the_unit(tmp_path: Path) -> None:
    assert INSTALLED in UNIT.read_text()
    assert verified(tmp_path, UNIT.read_text()) == ""


def test_systemd_would_find_a_misspelt_key(tmp_path: Path) -> None:
    assert "KillMood" in verified(tmp_path, UNIT.read_text().replace("KillMode", "KillMood"))


def test_systemd_waits_longer_than_gateways_and_engines_drain() -> None:
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(UNIT.read_text())
    drain_s = tomllib.loads((ROOT / "docs" / "lorry.toml").read_text())["gateway"]["drain_timeout_s"]
    assert int(unit["Service"]["TimeoutStopSec"]) > 2 * (drain_s + 10)
