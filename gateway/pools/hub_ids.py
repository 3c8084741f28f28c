"""Ids of models on hubs, distinguished from folders. Asks no hub and loads no client of one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

HUB_ID: Final = re.compile(r"(?P<id>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(?P<revision>[^@\s]+))?")
"""`OWNER/NAME` or `OWNER/NAME@REVISION`."""


def is_hub_id(text: str) -> bool:
    """Return whether *text* is written like an id on a hub and is not a folder."""
    return HUB_ID.fullmatch(text) is not None and not Path(text).exists()
