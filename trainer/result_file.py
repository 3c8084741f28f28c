"""The result file of a job: the figures of its steps as CSV, with the columns of OpenAI's result files."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from registry.database import Registry

COLUMNS: Final[Mapping[str, str]] = {
    "step": "step",
    "train_loss": "train_loss",
    "train_accuracy": "train_mean_token_accuracy",
    "valid_loss": "valid_loss",
    "valid_mean_token_accuracy": "valid_mean_token_accuracy",
    "full_valid_loss": "full_valid_loss",
    "full_valid_mean_token_accuracy": "full_valid_mean_token_accuracy",
}
"""Column -> figure in the data of the job's events: OpenAI's five, and those of the whole validation file."""
RENAMED: Final[Mapping[str, str]] = {"completion_tokens": "completion_tokens_mean"}
"""Figure of a method -> its column in OpenAI's result files, where that has another name."""
OF_THE_RUN: Final = frozenset({"total_steps", "learning_rate", "tokens", "eta_s"})
"""Figures in the data of a step that show how the run goes, not what was learnt."""
EVENTS_AT_ONCE: Final = 1000


def result_csv(registry: Registry, job_id: str) -> bytes | None:
    """Return a row for each step that the job reported, in their order; None if it reported none.

    Figures of the job's method are further columns: rewards (`train_mean_reward` as at OpenAI), preference accuracies.
    """
    steps: dict[int, dict[str, Any]] = {}
    for data in _newest_first(registry, job_id):
        if "train_loss" in data or "full_valid_loss" in data:
            known = steps.setdefault(data["step"], {})
            # A step that was done again after a crash keeps the figures of the last time.
            known |= {name: value for name, value in data.items() if name not in known}
    rows = [figures for _, figures in sorted(steps.items()) if "train_loss" in figures]
    if not rows:
        return None
    columns = {**COLUMNS, **_of_method(rows)}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([figures.get(figure, "") for figure in columns.values()] for figures in rows)
    return text.getvalue().encode()


def _of_method(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return column -> figure for what the method measures of its own, training before validation."""
    known = OF_THE_RUN | set(COLUMNS.values())
    own = {name for row in rows for name, value in row.items() if name not in known and isinstance(value, int | float)}
    ordered = sorted(own, key=lambda name: (name.startswith(("valid_", "full_valid_")), name))
    return {RENAMED.get(name, name): name for name in ordered}


def _newest_first(registry: Registry, job_id: str) -> Iterator[Mapping[str, Any]]:
    """Yield the data of the events that report a step."""
    after = None
    while events := registry.jobs.events(job_id, after=after, limit=EVENTS_AT_ONCE):
        yield from (event.data for event in events if "step" in event.data)
        after = events[-1].id
