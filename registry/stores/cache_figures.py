"""Figures of a machine's cache, summed over its processes: those that read artifacts have no metrics of their own."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Final

_FILE: Final = "figures.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheFigures:
    """Counts since the cache was made."""

    hits: int = 0
    """Reads of a copy that was here."""
    misses: int = 0
    """Copies that were fetched."""
    fetched_bytes: int = 0
    evictions: int = 0
    evicted_bytes: int = 0


def read_figures(root: Path) -> CacheFigures:
    """Return the figures of the cache in *root*."""
    try:
        row = json.loads((root / _FILE).read_text())
        return CacheFigures(**{field.name: int(row.get(field.name, 0)) for field in fields(CacheFigures)})
    except (OSError, ValueError, AttributeError):  # none yet, or a machine that stopped while it wrote them
        return CacheFigures()


def add_figures(root: Path, more: CacheFigures) -> None:
    """Add *more*; the caller holds the cache's lock."""
    there = asdict(read_figures(root))
    new = root / f"{_FILE}.new"
    new.write_text(json.dumps({name: there[name] + count for name, count in asdict(more).items()}))
    os.replace(new, root / _FILE)
