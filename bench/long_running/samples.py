"""Samples of a process over time, and whether its memory grows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np

from bench.one_gateway.process import GatewayProcess

BLOCK_S: Final = 60.0
"""Samples of so long a time count as one: neighbours are alike, and would make a slope look surer than it is."""
RESAMPLED: Final = 2000
SECONDS_PER_HOUR: Final = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A gateway process at one moment."""

    at_s: float
    """Seconds since the first sample."""
    resident_mb: float
    proportional_mb: float
    descriptors: int
    threads: int
    processor_s: float
    requests: int
    """Answers that clients had so far, and requests that they left."""
    failed: int
    served: int
    """Names that clients ask for."""
    metrics_bytes: int
    """The length of `/metrics`, which grows with the names that the gateway remembers."""
    scrape_s: float
    """Seconds that the gateway took to answer `/metrics`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slope:
    """The growth of a figure an hour, with the bounds between which 95 % of resampled slopes are."""

    an_hour: float
    low: float
    high: float


def sample(
    gateway: GatewayProcess, at_s: float, *, requests: int, failed: int, served: int, metrics: int, scrape_s: float
) -> Sample:
    """Return the process as it is now, with what its clients counted."""
    proc = Path(f"/proc/{gateway.pid}")
    lines = (proc / "smaps_rollup").read_text().splitlines()
    kilobytes = {line.split()[0]: int(line.split()[1]) for line in lines[1:]}
    return Sample(
        at_s=round(at_s, 3),
        resident_mb=kilobytes["Rss:"] / 1000,
        proportional_mb=kilobytes["Pss:"] / 1000,
        descriptors=len(list((proc / "fd").iterdir())),
        threads=len(list((proc / "task").iterdir())),
        processor_s=round(sum(gateway.processor_s().values()), 3),
        requests=requests,
        failed=failed,
        served=served,
        metrics_bytes=metrics,
        scrape_s=round(scrape_s, 3),
    )


def append(path: Path, taken: Sample) -> None:
    """Write a line of JSON."""
    with path.open("a") as file:
        file.write(json.dumps(asdict(taken)) + "\n")


def read(path: Path) -> list[Sample]:
    """Return the samples of a file that `append` wrote."""
    return [Sample(**json.loads(line)) for line in path.read_text().splitlines()]


def slope_of(samples: Sequence[Sample], field: str, after_s: float) -> Slope | None:
    """Return the least-squares slope of *field* after that time; None for fewer than three blocks."""
    kept = [each for each in samples if each.at_s >= after_s]
    blocks = sorted({int(each.at_s // BLOCK_S) for each in kept})
    if len(blocks) < 3:
        return None
    values = np.array(
        [np.mean([getattr(each, field) for each in kept if each.at_s // BLOCK_S == block]) for block in blocks]
    )
    hours = np.array(blocks) * BLOCK_S / SECONDS_PER_HOUR
    source = np.random.default_rng(7)
    drawn = [source.integers(len(blocks), size=len(blocks)) for _ in range(RESAMPLED)]
    slopes = [np.polyfit(hours[each], values[each], 1)[0] for each in drawn if len(set(each)) > 2]
    low, high = np.percentile(slopes, (2.5, 97.5))
    return Slope(an_hour=float(np.polyfit(hours, values, 1)[0]), low=float(low), high=float(high))
