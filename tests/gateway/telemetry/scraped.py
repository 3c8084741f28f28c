"""Readers of a gateway's metrics for tests."""

from __future__ import annotations

import re

_PROCESS = re.compile(r'\{gateway="[^"]*"(?:,|(?P<alone>\}))')


def without_process(text: str) -> str:
    """The exposition without the label that names the process."""
    return _PROCESS.sub(lambda found: "" if found["alone"] else "{", text)
