"""Where the trainer writes its log."""

from __future__ import annotations

import logging

from registry.json_lines import JsonLines


def log_to_stderr() -> None:
    """Everything from INFO on goes to stderr from now on."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
