"""Start the further processes of an order, on this machine or by Ray, as the order has it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from trainer.order import ChildOrder
from trainer.progress import Report, StopAsked
from trainer.ranks.further_ranks import FurtherRanks
from trainer.ranks.rank_process import rank_variables, start_rank


def start_ranks(order_path: Path, order: ChildOrder[Any], report: Report, stop_asked: StopAsked) -> FurtherRanks | None:
    """Start them, and make this process the first; None if a stop was asked for before there was room for them."""
    if order.ray_address is None:
        return FurtherRanks(_start_here(order_path, order.spec.process_count()), order.attempt_folder)
    from trainer.ranks.ray_ranks import RayRanks  # loads Ray, which takes a second

    placed = RayRanks(order, order.ray_address, report).start(order_path, stop_asked)
    return None if placed is None else FurtherRanks(placed, order.attempt_folder)


def _start_here(order_path: Path, size: int) -> list[subprocess.Popen[bytes]]:
    """Start them on this machine, in the process group that the worker kills; the kernel ends them with this one."""
    os.environ.update(rank_variables(0, size))
    return [start_rank(order_path, os.environ | rank_variables(rank, size)) for rank in range(1, size)]
