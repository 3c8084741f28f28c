"""A run in TensorBoard's event files."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from registry.contracts.extensions.integrations import Integration
from registry.contracts.job_spec import JobSpec
from trainer.order import ChildOrder


class TensorBoardRun:
    """A folder with one file of events for each attempt."""

    def __init__(self, integration: Integration, order: ChildOrder[JobSpec], folder: Path) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        options = integration.tensorboard
        name = order.job_folder.name if options is None or options.name is None else options.name
        self.place = str(folder / "tensorboard" / name)
        self._writer = EventFileWriter(self.place)

    def record(self, step: int, figures: Mapping[str, float]) -> None:
        """Write the figures."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=value) for name, value in figures.items()]
        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))

    def end(self, *, succeeded: bool) -> None:
        """Close the file."""
        self._writer.close()
