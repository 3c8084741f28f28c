"""When this command was launched, before Python imported anything."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

_STARTED_AT: Final = 19
"""Place of the time of a process' start among the fields after its name, see proc_pid_stat(5)."""


def launched_at() -> float:
    """Return when this process began, on the clock of `time.monotonic`, which all processes of a machine share."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    started_at = int(fields[_STARTED_AT]) / os.sysconf("SC_CLK_TCK")  # since the machine started
    return time.monotonic() - (time.clock_gettime(time.CLOCK_BOOTTIME) - started_at)
