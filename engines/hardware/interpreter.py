"""How quick the Python is that Lorry runs in, beside the other Pythons of its version on the machine.

A request costs what the interpreter takes for it, and one that was built without profile-guided optimisation takes a
tenth more or worse. Distributions build with it; their Python does not show it. So the same loop is timed in both: the
ratio depends on neither the machine nor its load.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_FOLDERS: Final = ("/usr/bin", "/usr/local/bin")
_TURNS: Final = 5
_SLOWER: Final = 1.05
"""A smaller ratio than this may be chance."""
_LONGEST_S: Final = 10.0
# Calls, attributes, dicts and small numbers: what a request is made of.
_LOOP: Final = """
import time
class Counter:
    def __init__(self):
        self.seen = {}
        self.total = 0
    def add(self, name, value):
        self.seen[name] = self.seen.get(name, 0) + 1
        self.total += value
def run():
    counter = Counter()
    for number in range(20000):
        counter.add(number & 63, number)
least = 1e9
for _ in range(6):
    began = time.perf_counter()
    run()
    least = min(least, time.perf_counter() - began)
print(least)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter:
    """The Python that Lorry runs in."""

    path: str
    version: str
    is_optimised: bool | None
    """Whether its build states profile-guided optimisation; None where a distribution's build states nothing."""
    quicker: str | None
    """Another Python of this version that is quicker."""
    ratio: float | None
    """Time of our Python over the time of that one, for the same loop."""

    @property
    def remark(self) -> str | None:
        """The advice for a slow Python, None for one that is as quick as any here."""
        if self.quicker is not None and self.ratio is not None:
            times = f"the Python of this environment takes {self.ratio:.2f} times the time of {self.quicker}"
            return f"{times}, and so does each request: make the environment with that one (`make venv PYTHON=...`)"
        if self.is_optimised is False:
            return (
                "the Python of this environment was built without --enable-optimizations: requests take a tenth more "
                "processor time than with a distribution's Python"
            )
        return None


def read_interpreter() -> Interpreter:
    """Time our Python, and the others of its version if there are any; that takes about a second."""
    own = Path(getattr(sys, "_base_executable", sys.executable))
    quicker, ratio = None, None
    for other in others_than(own):
        found = _ratio(own, other)
        if found is not None and found > max(ratio or 0.0, _SLOWER):
            quicker, ratio = str(other), found
    return Interpreter(
        path=str(own),
        version=sys.version.split()[0],
        is_optimised=is_optimised(str(sysconfig.get_config_var("CONFIG_ARGS") or "")),
        quicker=quicker,
        ratio=ratio,
    )


def is_optimised(config_args: str) -> bool | None:
    """Read how a Python was configured; a distribution's passes its optimisation on in another way."""
    if "--enable-optimizations" in config_args:
        return True
    return None if "--with-dtrace" in config_args or "--with-system-expat" in config_args else False


def others_than(own: Path) -> list[Path]:
    """Return the Pythons of our minor version where distributions and containers put theirs."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    places = [Path(folder) / name for folder in _FOLDERS]
    return [place for place in places if os.access(place, os.X_OK) and place.resolve() != own.resolve()]


def _ratio(own: Path, other: Path) -> float | None:
    """Return the least time of ours over that of the other, in turns; None where one of them does not run."""
    times: dict[Path, float] = {}
    for _ in range(_TURNS):
        for python in (own, other):
            try:
                words = [str(python), "-I", "-S", "-c", _LOOP]
                ran = subprocess.run(words, capture_output=True, text=True, check=True, timeout=_LONGEST_S)
                times[python] = min(times.get(python, float("inf")), float(ran.stdout))
            except (OSError, subprocess.SubprocessError, ValueError):
                return None
    return times[own] / times[other]
