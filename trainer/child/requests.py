"""Requests of a worker to its resident child: one JSON object a message on a socket that keeps messages apart."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

LONGEST_REQUEST: Final = 1 << 16


class ResidentRequest(BaseModel):
    """The act that is asked for, and the file of the order that it is about."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    act: Literal["begin", "stop", "drop"]
    """Begin the job, stop it at a checkpoint, or leave it as it is: nobody reads its reports any more."""
    order_path: Path
