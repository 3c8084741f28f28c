"""The result file of a job: the figures of its steps as CSV, with the columns of OpenAI's result files."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
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
EVENTS_AT_ONCE: Final = 1000


def result_csv(registry: Registry, job_id: str) -> bytes | None:
    """Return a row for each step that the job reported, in their order; None if it reported none."""
    steps: dict[int, dict[str, Any]] = {}
    for data in _newest_first(registry, job_id):
        if COLUMNS.keys() & data.keys() or "full_valid_loss" in data:
            known = steps.setdefault(data["step"], {})
            # A step that was done again after a crash keeps the figures of the last time.
            known |= {name: value for name, value in data.items() if name not in known}
    rows = {step: figures for step, figures in sorted(steps.items()) if "train_loss" in figures}
    if not rows:
        return None
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([figures.get(figure, "") for figure in COLUMNS.values()] for figures in rows.values())
    return text.getvalue().encode()


def _newest_first(registry: Registry, job_id: str) -> Iterator[Mapping[str, Any]]:
    """Yield the data of the events that report a step."""
    after = None
    while events := registry.jobs.events(job_id, after=after, limit=EVENTS_AT_ONCE):
        yield from (event.data for event in events if "step" in event.data)
        after = events[-1].id
