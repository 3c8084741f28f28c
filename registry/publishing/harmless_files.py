"""Files beside weights that no loader runs: configuration and texts. Standard library only."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Final

HARMLESS_SUFFIXES: Final = frozenset({".json", ".jinja", ".jsonl", ".md", ".model", ".txt"})
_PLAIN_NAMES: Final = re.compile(r"(LICEN[CS]E|NOTICE|COPYING|USE_POLICY)([-_][\w-]+)?(\.\d+)?", re.IGNORECASE)
"""Texts that many repositories have without a suffix: `LICENSE`, `LICENSE-APACHE-2.0`."""


def is_harmless(name: str) -> bool:
    """Whether a file of this name is configuration or text."""
    path = PurePosixPath(name)
    return path.suffix in HARMLESS_SUFFIXES or _PLAIN_NAMES.fullmatch(path.name) is not None
