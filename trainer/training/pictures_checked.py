"""The pictures outside of a job's files, compared with what they were when the job was created."""

from __future__ import annotations

from registry.contracts.fine_tune_spec import FineTuneSpec
from registry.contracts.pictures.picture_sources import check_named
from registry.errors import TrainingFileInvalid
from trainer.errors import JobFailed
from trainer.order import ChildOrder


def check_unchanged(order: ChildOrder[FineTuneSpec]) -> None:
    """Raise `JobFailed` unless the pictures outside of the order's files are those with which the job was made."""
    sources = order.pictures.sources()
    named = [*order.spec.named_pictures(order.inputs)]
    for field, digest in order.spec.pictures.items():
        try:
            found = check_named((picture for its, picture in named if its == field), sources)
        except TrainingFileInvalid as exc:
            raise JobFailed("file_not_readable", str(exc), field) from exc
        if found != digest:
            why = f"pictures that {field} names were changed after the job was created"
            raise JobFailed("file_not_readable", why, field)
