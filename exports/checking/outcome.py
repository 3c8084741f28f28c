"""The request to a check and its findings; both processes read and write them as JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

from exports.errors import NotExportable

Kind = Literal["model", "adapter", "gguf"]
SAME: Final = 0.001
TOLERANCES: Final = {"folder": SAME, "f32": SAME, "f16": 0.02, "bf16": 0.15, "adapter": 0.1}
"""Form -> the largest root mean square, in nats, of differences of logprobs; the other types are rounded on purpose."""
_DIGITS: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOrder:
    """A check of the export *target* against what it was made of. Paths."""

    kind: Kind
    source: str
    """The model's folder; for an adapter that of its base model."""
    target: str
    form: str
    fingerprint: str | None = None
    """File of the adapter's fingerprint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How far the logprobs of the likeliest tokens differ."""

    tokens: int
    same_best_tokens: int
    rms: float
    largest: float

    def sentence(self, form: str) -> str:
        """Return the outcome as people read it."""
        what = "" if form == "folder" else f" as GGUF ({form})"
        return (
            f"Read back{what}: the logprobs of {self.tokens} tokens differ by {round(self.rms, _DIGITS)} nats (root "
            f"mean square; at most {round(self.largest, _DIGITS)}), {self.same_best_tokens} of their likeliest tokens "
            "are the same."
        )


def check(order: CheckOrder) -> Outcome:
    """Return what a process of its own finds; `NotExportable` if *target* cannot be read, or answers otherwise."""
    command = [sys.executable, "-P", "-m", "exports.checking", json.dumps(asdict(order))]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, errors="replace")
    lines = run.stdout.splitlines()
    if run.returncode != 0 or not lines:
        why = (run.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise NotExportable(f"{Path(order.target).name} cannot be read back: {why[:500]}")
    outcome = Outcome(**json.loads(lines[-1]))
    tolerance = TOLERANCES.get(order.form)
    if tolerance is not None and not outcome.rms <= tolerance:
        raise NotExportable(
            f"{Path(order.target).name} answers otherwise than the model it was made of: "
            f"{outcome.sentence(order.form)} Rounding explains {tolerance}."
        )
    return outcome
