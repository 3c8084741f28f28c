"""The programs that `make deploy-lint` runs, which it installs into `LORRY_TEST_SDKS`."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

from tests.pages import ROOT

DEPLOY: Final = ROOT / "deploy"


def tool(name: str) -> str:
    """Return the path of a program of Python's index, or of npm's."""
    folders = Path(os.environ["LORRY_TEST_SDKS"])
    paths = (folders / "deploy" / "bin" / name, folders / "deploy-node" / "node_modules" / ".bin" / name)
    return next(str(path) for path in paths if path.exists())


def run(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a program in the repository's root and return how it ended."""
    return subprocess.run(
        [tool(name), *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )


def passes(name: str, *arguments: str | Path) -> str:
    """Return what a program prints; its complaint is that of the failed test."""
    ended = run(name, *arguments)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def complains(name: str, *arguments: str | Path) -> str:
    """Return the complaint of a program that must not be content."""
    ended = run(name, *arguments)
    assert ended.returncode != 0, f"{name} finds nothing wrong"
    return ended.stdout + ended.stderr
