"""The peers' environments: each is made once from its list of exact versions, below the cache folder."""

from __future__ import annotations

import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Final

PINS: Final = Path(__file__).parents[1] / "peers"


def environment(name: str, cache: Path, *, whole: bool = True) -> Path:
    """Return the environment of *name*, made from `peers/NAME.txt` unless it was made from the same list before.

    A list that is not *whole* lacks what torch's build for a GPU needs, and pip adds it where it installs that build.
    """
    pins = PINS / f"{name}.txt"
    digest = sha256(pins.read_bytes()).hexdigest()
    folder = cache / "environments" / name
    made_from = folder / "made-from"
    if made_from.exists() and made_from.read_text() == digest:
        return folder
    sys.stderr.write(f"Making the environment of {name} (once)\n")
    shutil.rmtree(folder, ignore_errors=True)
    _run(sys.executable, "-m", "venv", str(folder))
    pip = (str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "-qq")
    _run(*pip, *(["--no-deps"] if whole else []), "--requirement", str(pins))
    made_from.write_text(digest)
    return folder


def _run(*command: str) -> None:
    if subprocess.run(command, check=False).returncode != 0:
        raise SystemExit(f"failed: {' '.join(command)}")
