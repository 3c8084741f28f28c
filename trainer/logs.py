"""The trainer's log goes to stderr as JSON lines."""

from __future__ import annotations

import logging

from registry.json_lines import JsonLines


def log_to_stderr() -> None:
    """Write everything from INFO on to stderr from now on."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
