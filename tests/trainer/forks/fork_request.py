"""What the process of the forks is asked for."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel


class ForkRequest(BaseModel):
    """An order to be carried out in a fork; the descriptor for its reports comes with the message."""

    order_path: Path
    log: Path
