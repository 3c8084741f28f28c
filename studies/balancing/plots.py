"""Plots of the simulation of balancing for `docs/balancing.md`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib.figure import Figure

from studies.balancing.simulation import PolicyOutcome

STYLES: Final = {
    "affinity, bounded": ("#2a7f4f", "-"),
    "affinity alone": ("#2a7f4f", ":"),
    "least loaded": ("#b3372f", "-"),
    "round robin": ("#777777", "-"),
    "random": ("#777777", ":"),
}


def write_plots(folder: Path, outcomes: Sequence[PolicyOutcome]) -> None:
    """Write `policies.svg`: cache hits and waits by load."""
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({"svg.hashsalt": "lorry", "svg.fonttype": "none", "font.size": 9}):
        _policies(outcomes).savefig(folder / "policies.svg", metadata={"Date": None})


def _policies(outcomes: Sequence[PolicyOutcome]) -> Figure:
    figure = Figure(figsize=(9, 3), layout="constrained")
    hits, waits, tokens = figure.subplots(1, 3)
    for policy, (color, line) in STYLES.items():
        found = [each for each in outcomes if each.policy == policy]
        loads = [each.load for each in found]
        hits.plot(loads, [100 * each.hits for each in found], color=color, linestyle=line, label=policy)
        waits.plot(loads, [each.wait_p99_s for each in found], color=color, linestyle=line)
        tokens.plot(loads, [each.first_token_p50_s for each in found], color=color, linestyle=line)
    hits.set(xlabel="offered load", ylabel="% of prompts that meet their prefix", ylim=(0, 100))
    waits.set(xlabel="offered load", ylabel="p99 of the wait for a place, s", yscale="symlog", ylim=(0, None))
    tokens.set(xlabel="offered load", ylabel="median time to first token, s", yscale="log")
    hits.legend(loc="center right", frameon=False, fontsize=8)
    return figure
