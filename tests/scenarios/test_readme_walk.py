"""The commands of README are typed as they stand, in a fresh home, and does what README says it does."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.pages import ROOT, blocks
from tests.up_process import LORRY, Up

pytestmark = pytest.mark.walk

SHELL: Final = [block for block in blocks(ROOT / "README.md") if block.language == "bash"]
PROGRAMS: Final = [block.text for block in blocks(ROOT / "README.md") if block.language == "python"]
STEP_TIMEOUT_S: Final = 1200.0
DEFAULT: Final = "127.0.0.1:8080"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder: nothing was unpacked, trained or served there."""
    return tmp_path_factory.mktemp("fresh")


class Reader:
    """Somebody with a terminal in the folder of the sources, who types what README says."""

    def __init__(self, up: Up, folder: Path) -> None:
        self._up = up
        # README activates the environment of `make venv`; the tests may run in another one.
        scripts = folder / "bin"
        scripts.mkdir()
        for name, command in {"lorry": LORRY, "python": [sys.executable]}.items():
            (scripts / name).write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
            (scripts / name).chmod(0o755)
        (scripts / "activate").write_text("")
        path = f"{scripts}:{os.environ['PATH']}"
        self._environment = os.environ | {"LORRY_URL": up.url, "PATH": path, "COLUMNS": "100"}
        self._folder = folder

    def types(self, text: str) -> str:
        """Type *text* into a shell, and return what it prints; fail unless the whole of it succeeds."""
        script = text.replace("source .venv/bin/activate", f"source '{self._folder}/bin/activate'")
        # Where a command fails, what runs in the background would keep our end of its output open.
        script = f"trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{script}"
        return self._run(["bash", "-e", "-c", self._at_our_port(script)])

    def runs(self, program: str) -> str:
        """Run *program* with Python and return what it prints."""
        return self._run([sys.executable, "-c", self._at_our_port(program)])

    def _at_our_port(self, text: str) -> str:
        port = self._up.url.rpartition(":")[2]
        return text.replace(DEFAULT, f"127.0.0.1:{port}").replace("localhost:8080", f"127.0.0.1:{port}")

    def _run(self, command: list[str]) -> str:
        told = subprocess.run(
            command,
            cwd=ROOT,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=STEP_TIMEOUT_S,
            check=False,
        )
        print(told.stdout, told.stderr, sep="\n")  # shown by -s and where the test fails
        assert told.returncode == 0, told.stderr
        return told.stdout + told.stderr


@pytest.fixture(scope="module")
def reader(up: Up, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    folder = tmp_path_factory.mktemp("reader")
    yield Reader(up, folder)
    shutil.rmtree(folder)


def test_readme_is_typed_from_the_first_chat_to_a_judged_promotion(reader: Reader) -> None:
    began = time.monotonic()
    first_chat, _ = PROGRAMS
    assert "Paris" in reader.runs(first_chat)
    _, commands, request = (block.text for block in SHELL[:3])
    shown = reader.types(commands)
    print(f"\nREADME's walk took {time.monotonic() - began:.0f} s")
    for fact in ("support@1 is proven and served", "support@2 is proven and served", "training, step"):
        assert fact in shown
    assert re.search(r"\d+ of 40 canary requests", shown)
    assert '"model":"support@2"' in reader.types(request).replace(" ", "")


def test_the_same_fine_tune_from_python_is_accepted(reader: Reader) -> None:
    first_chat, fine_tune = PROGRAMS
    client = first_chat.partition("answer =")[0]
    assert "Created fine-tuning job" in reader.runs(client + fine_tune)
