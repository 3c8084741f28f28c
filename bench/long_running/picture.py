"""The curve of a long run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from bench.long_running.samples import Sample

GREEN, RED, GREY = "#2a7f4f", "#b3372f", "#777777"


def draw(samples: Sequence[Sample], path: Path, warm_s: float) -> None:
    """Write memory and descriptors over time as an SVG."""
    minutes = [each.at_s / 60 for each in samples]
    with mpl.rc_context({"svg.hashsalt": "lorry", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(8, 3), layout="constrained")
        memory, descriptors = figure.subplots(1, 2)
        memory.plot(minutes, [each.resident_mb for each in samples], color=GREEN, label="resident")
        memory.plot(minutes, [each.proportional_mb for each in samples], color=GREY, label="proportional (PSS)")
        memory.set(xlabel="minutes", ylabel="MB", ylim=(0, None), title="memory of the gateway process")
        descriptors.plot(minutes, [each.descriptors for each in samples], color=GREEN, label="open descriptors")
        descriptors.plot(minutes, [each.threads for each in samples], color=GREY, label="threads")
        descriptors.set(xlabel="minutes", ylim=(0, None), title="descriptors and threads")
        for axes in (memory, descriptors):
            axes.axvline(warm_s / 60, color=RED, linestyle="--", label="end of the warm-up")
            axes.legend(loc="lower right", frameon=False)
        figure.savefig(path, metadata={"Date": None})
