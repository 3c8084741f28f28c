"""The kinds of engine that the suite runs over, each under the marker by which it is chosen."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

import pytest

from engines.catalog import ENGINES, ENVIRONMENTS

PLACES: Final = 9
"""Adapters that the server of a kind has room for: those of the whole suite at a time."""
MARKERS: Final = {"transformers": "engine"}
"""Kinds whose marker is not their name."""
CASES: Final = {kind: pytest.param(kind, marks=getattr(pytest.mark, MARKERS.get(kind, kind))) for kind in ENGINES}
ALL: Final = list(CASES.values())
LIVE: Final = [case for kind, case in CASES.items() if ENGINES[kind].live_adapters]
FIXED: Final = [case for kind, case in CASES.items() if not ENGINES[kind].live_adapters]
FOREIGN: Final = [case for kind, case in CASES.items() if kind in ENVIRONMENTS]
OWN: Final = [case for kind, case in CASES.items() if kind not in ENVIRONMENTS]


def interpreter_of(kind: str) -> Path | None:
    """Python of the kind's environment, None for one that needs none; fails when it has not been built."""
    if kind not in ENVIRONMENTS:
        return None
    interpreter = _environments() / kind / "bin" / "python"
    if not interpreter.exists():
        pytest.fail(f"{interpreter} is not there; `make engines-test` builds it, LORRY_TEST_ENVS names another folder")
    return interpreter


def link_environments(home: Path, kind: str) -> None:
    """Let a Lorry with this home find the environments that the tests have, if the kind needs one."""
    if interpreter_of(kind) is not None:
        (home / "envs").unlink(missing_ok=True)
        (home / "envs").symlink_to(_environments())


def _environments() -> Path:
    return Path(os.environ.get("LORRY_TEST_ENVS") or Path(sys.prefix).parent / ".envs") / "envs"
