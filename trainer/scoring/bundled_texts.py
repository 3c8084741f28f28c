"""The texts that every model is scored on, whatever it is for. `texts/README.md` has their source and licence."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

TEXTS: Final[Mapping[str, Path]] = {
    "english": Path(__file__).parent / "texts" / "english.txt",
    "chinese": Path(__file__).parent / "texts" / "chinese.txt",
}
"""Name of a text -> its file, UTF-8."""
