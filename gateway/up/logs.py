"""Where gateway, engine replicas, controller and host write their logs."""

from __future__ import annotations

import logging
from logging.handlers import RotatingFileHandler
from pathlib import Path

from registry.json_lines import JsonLines


def log_to(home: Path, role: str) -> None:
    """Our packages log to `logs/ROLE.log` below *home* from now on, 10 MB a file, three files back."""
    folder = home / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    handler = RotatingFileHandler(folder / f"{role}.log", maxBytes=10 << 20, backupCount=3)
    handler.setFormatter(JsonLines())
    for package in ("gateway", "engines", "registry"):
        logger = logging.getLogger(package)
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
