"""Estimates that are made by the command itself, of a model that lies on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from engines.hardware.probe import read_machine
from engines.hardware.wishes import Wishes
from estimates.asked import job_spec
from estimates.data_shape import DataShape
from estimates.errors import EstimateError
from estimates.model_config import read_model_config
from estimates.row_lengths import read_data_shape
from estimates.serving import estimate_serving
from estimates.training import estimate_training
from estimates.usual import USUAL_LENGTH, USUAL_ROWS, AskedDevice
from gateway.cli.errors import CommandFailed
from gateway.estimate_answers import serving_answer, training_answer
from gateway.objects.estimates import ServingEstimateObject, TrainingEstimateObject
from registry.contracts.job_kinds import FINE_TUNING_METHODS
from registry.errors import TrainingFileInvalid
from registry.wording.field_faults import fault_in

Rows = tuple[int | None, int | None, int | None, int | None, Path | None]
"""Number, length and learnt tokens of rows, number of those to validate on, and the file that has the former."""


def training_here(
    path: Path, work: tuple[str, Mapping[str, Any]], asked_rows: Rows, place: tuple[AskedDevice, int]
) -> TrainingEstimateObject:
    """Return the estimate of a job; *work* is its method with options, *place* the device and the threads of a job."""
    rows, length, learnt, validation_rows, data = asked_rows
    method, options = work
    asked, threads = place
    kind = FINE_TUNING_METHODS[method]
    with _spoken():
        config = read_model_config(path)
        if data is None:
            shape = DataShape.even(rows or USUAL_ROWS, length or USUAL_LENGTH, learnt, kind.answers_per_row)
        else:
            shape = read_data_shape(data, kind, path if path.is_dir() else None)
        shape = replace(shape, validation_rows=validation_rows or 0)
        spec = job_spec(method, kind.options_as.model_validate(options), shape.rows)
        made = estimate_training(config, spec, shape, asked.on(read_machine(), threads))
    return training_answer(made, (config.name, config), spec, (shape.rows, shape.longest))


def serving_here(path: Path, wishes: Wishes, asked: AskedDevice) -> ServingEstimateObject:
    """Return the estimate of an engine that serves the model as wished."""
    machine = read_machine()
    with _spoken():
        config = read_model_config(path)
        made = estimate_serving(config, wishes, asked.on(machine, machine.processor.cores), machine.processor)
    return serving_answer(made, config.name, config)


@contextmanager
def _spoken() -> Iterator[None]:
    """Turn what is wrong with the input into the command's error."""
    try:
        yield
    except (EstimateError, TrainingFileInvalid) as exc:
        raise CommandFailed(str(exc)) from exc
    except OSError as exc:
        raise CommandFailed(f"{exc.filename}: {exc.strerror}") from exc
    except ValidationError as exc:
        raise CommandFailed(f"--set: {fault_in({}, exc).sentence}") from exc
