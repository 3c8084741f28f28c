"""`lorry estimate`: what a training job or an engine takes, before it starts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from engines.hardware.machine import GB
from engines.hardware.wishes import Wishes
from engines.kinds import Precision
from estimates.devices import KNOWN_DEVICES
from estimates.usual import ANY_GRADER, USUAL_LENGTH, AskedDevice
from gateway.cli.client import Client
from gateway.cli.errors import CommandFailed
from gateway.cli.output import Column, JsonFlag, show_fields, show_json, show_table
from gateway.cli.short_ids import whole_id
from gateway.cli.tables.forms import length as length_text
from gateway.cli.train import GRADED, METHODS, SetFlag, parse_settings
from gateway.objects.estimates import EstimatedChange, ServingEstimateObject, TrainingEstimateObject
from registry.wording.known_fields import without_nulls

app = typer.Typer(name="estimate", no_args_is_help=True)

ModelArgument = Annotated[
    str,
    typer.Option(
        "--model",
        metavar="FOLDER|CONFIG|BASE",
        help="Folder of a model or its config.json, which needs no gateway; or the name of a base model of Lorry's.",
    ),
]
DeviceFlag = Annotated[
    str | None,
    typer.Option(
        "--device", metavar="NAME", help=f"{', '.join(KNOWN_DEVICES)}, or several: 4xh100. This machine if left out."
    ),
]
MemoryFlag = Annotated[str | None, typer.Option("--memory", metavar="SIZE", help="Its memory, for example 24GiB.")]
_LONG_STEP_S: Final = 60
"""From how many seconds on a step is shown like longer times, in minutes."""
_FLAGS: Final = {"device": "--device", "memory": "--memory", "target_modules": "--set", "model": "--model"}


@app.command("train")
def train(
    model: ModelArgument,
    method: Annotated[str, typer.Option(metavar="METHOD", help=f"{', '.join(METHODS)}.")] = "sft",
    data: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Training file, whose rows are counted; with a model's folder.")
    ] = None,
    file: Annotated[
        str | None, typer.Option("--file", metavar="ID", help="Id of an uploaded file; with the name of a base model.")
    ] = None,
    rows: Annotated[int | None, typer.Option(min=1, max=10**9, help="Rows, where there is no file.")] = None,
    length: Annotated[int | None, typer.Option(min=2, max=10**7, help="Tokens of a row.")] = None,
    learnt: Annotated[int | None, typer.Option(min=1, help="Tokens of a row that are learnt.")] = None,
    settings: SetFlag = None,
    validation_rows: Annotated[
        int | None, typer.Option(min=1, max=10**9, help="Rows of the validation file, as long as the others.")
    ] = None,
    device: DeviceFlag = None,
    memory: MemoryFlag = None,
    threads: Annotated[int, typer.Option(min=1, max=1024, help="CPU threads of a job here.")] = 1,
    as_json: JsonFlag = False,
) -> None:
    """Estimate memory, time and what fits of a training job. Exit code 3 if it does not fit."""
    if method not in METHODS:
        raise typer.BadParameter(f"method {method!r} is not one of {', '.join(METHODS)}")
    _check_rows(data or file, (rows, length, learnt))
    name, _ = METHODS[method]
    options = {"hyperparameters": parse_settings(settings or []), **({"grader": ANY_GRADER} if name in GRADED else {})}
    asked = AskedDevice(name=device, memory=memory)
    path = _local(model)
    if path is None:
        if data is not None:
            raise typer.BadParameter("--data goes with the folder of a model; with a base's name give --file ID")
        given = {"training_file": file, "rows": rows, "length": length, "learnt": learnt}
        given |= {"validation_rows": validation_rows}
        answer = _ask(model, {**given, "device": device, "memory": memory, "threads": threads}, (name, options))
    else:
        if file is not None:
            raise typer.BadParameter(
                "--file goes with the name of a base model; with a model's folder give --data FILE"
            )
        from gateway.cli.training.estimate_here import training_here  # the methods' specs take a while

        answer = training_here(path, (name, options), (rows, length, learnt, validation_rows, data), (asked, threads))
    show_json(answer) if as_json else _show_training(answer)
    if not answer.fits:
        raise typer.Exit(3)


@app.command("serve")
def serve(
    model: ModelArgument,
    engine: Annotated[str | None, typer.Option(metavar="KIND", help="Kind of engine; chosen if left out.")] = None,
    precision: Annotated[Precision | None, typer.Option(help="Precision; chosen if left out.")] = None,
    context: Annotated[int | None, typer.Option(min=1, max=10**7, help="Longest prompt and answer together.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, max=10**5, help="Sequences at a time.")] = None,
    adapters: Annotated[int | None, typer.Option(min=0, max=10**4, help="Places for adapters.")] = None,
    rank: Annotated[int, typer.Option(min=1, max=512, help="Highest rank of an adapter.")] = 64,
    tensor_parallel: Annotated[int | None, typer.Option(min=1, max=64, help="Devices that share each layer.")] = None,
    device: DeviceFlag = None,
    memory: MemoryFlag = None,
    as_json: JsonFlag = False,
) -> None:
    """Estimate memory, speed and what fits of an engine that serves a model. Exit code 3 if nothing fits."""
    wishes = Wishes(
        kind=engine,
        precision=precision,
        context=context,
        batch=batch,
        adapters=adapters,
        rank=rank,
        tensor_parallel=tensor_parallel,
    )
    answer = _serving(model, wishes, AskedDevice(name=device, memory=memory))
    show_json(answer) if as_json else _show_serving(answer)
    if not answer.fits:
        raise typer.Exit(3)


def _serving(model: str, wishes: Wishes, asked: AskedDevice) -> ServingEstimateObject:
    path = _local(model)
    if path is None:
        given: dict[str, Any] = {
            "engine": wishes.kind,
            "precision": wishes.precision,
            "context": wishes.context,
            "batch": wishes.batch,
            "adapters": wishes.adapters,
            "rank": wishes.rank,
            "tensor_parallel": wishes.tensor_parallel,
        }
        body = {"work": "serve", "model": model, "device": asked.name, "memory": asked.memory, "serve": given}
        with Client(flags=_FLAGS) as client:
            return client.post("/admin/estimates", ServingEstimateObject, without_nulls(body))
    from gateway.cli.training.estimate_here import serving_here

    return serving_here(path, wishes, asked)


def _check_rows(file: Path | str | None, lengths: tuple[int | None, int | None, int | None]) -> None:
    if file is not None and lengths != (None, None, None):
        raise typer.BadParameter("--rows, --length and --learnt do not go with a file, whose rows are counted")
    _, length, learnt = lengths
    if learnt is not None and learnt >= (length or USUAL_LENGTH):
        raise typer.BadParameter(f"--learnt {learnt} must be less than --length {length or USUAL_LENGTH}")


def _local(model: str) -> Path | None:
    """Return the folder or the file of a model on this machine; None for the name of a base model."""
    path = Path(model).expanduser()
    if path.exists():
        return path
    if path.suffix == ".json" or len(path.parts) > 1 or path.is_absolute():
        raise CommandFailed(f"{model}: there is no such folder or file")
    return None


def _ask(model: str, given: Mapping[str, Any], work: tuple[str, Mapping[str, Any]]) -> TrainingEstimateObject:
    """Return the answer of the gateway, which knows the base model and what jobs took there."""
    name, options = work
    with Client(flags=_FLAGS) as client:
        asked = {field: value for field, value in given.items() if value is not None}
        if (file := asked.get("training_file")) is not None:
            asked["training_file"] = whole_id(client, "file", file)
        body = {"model": model, "method": {"type": name, name: options}, **asked}
        return client.post("/admin/estimates", TrainingEstimateObject, body)


def _gb(size: int) -> str:
    return f"{size / GB:.2f} GB"


def _show_training(answer: TrainingEstimateObject) -> None:
    device = answer.device
    many = f"{device.count} x " if device.count > 1 else ""
    fields = [
        ("model", f"{answer.model}, {answer.parameters / 1e6:,.0f} million weights"),
        (
            "job",
            f"{answer.method}, {_rows(answer.rows)} of up to {answer.longest:,} tokens, batches of {answer.batch_size}",
        ),
        (
            "device",
            f"{many}{device.name}, {_gb(device.memory_bytes)}, of which a job may take {_gb(device.available_bytes)}",
        ),
        ("fits", "yes" if answer.fits else "no"),
        ("peak", f"{_gb(answer.peak_bytes)}, while {answer.phase}"),
        ("time", f"{length_text(answer.seconds)}: {_steps(answer)}"),
        ("largest pass", _rows(answer.largest_batch) if answer.largest_batch else "not even one row"),
        ("longest row", f"{answer.largest_length:,} tokens" if answer.largest_length else "none fits"),
        ("change", None if answer.change is None else _change(answer.change)),
        ("corrected by", _corrected(answer)),
    ]
    show_fields(fields)
    _show_parts(answer.parts)


def _steps(answer: TrainingEstimateObject) -> str:
    seconds = answer.step_seconds
    each = f"{seconds:.3g} s" if seconds < _LONG_STEP_S else length_text(seconds)
    return f"{answer.steps:,} step{'' if answer.steps == 1 else 's'} of {each}"


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"


def _corrected(answer: TrainingEstimateObject) -> str:
    if not answer.corrected_by and not answer.timed_by:
        return "nothing: no finished job of this kind and size is known"
    return f"{answer.corrected_by} finished jobs (memory), {answer.timed_by} (time)"


def _show_serving(answer: ServingEstimateObject) -> None:
    device = answer.device
    many = f"{device.count} x " if device.count > 1 else ""
    there = answer.fits
    fields = [
        ("model", f"{answer.model}, {answer.parameters / 1e6:,.0f} million weights"),
        ("device", f"{many}{device.name}, {_gb(device.memory_bytes)}"),
        ("fits", "yes" if there else "no"),
        ("why not", answer.refusal),
        ("engine", f"{answer.engine} in {answer.precision}, {answer.devices} device(s) a replica" if there else None),
        ("memory", f"{_gb(answer.peak_bytes)} of each device" if there else None),
        ("sizes", f"context {answer.context:,}, batch {answer.batch}, {answer.adapters} adapters" if there else None),
        (
            "at most",
            f"context {answer.largest_context:,} alone, batch {answer.largest_batch} of full length" if there else None,
        ),
        ("keys and values", f"{answer.kv_bytes_per_token / 1000:.1f} kB a token" if there else None),
        ("speed", _speed(answer) if there else None),
        ("change", None if answer.change is None else _change(answer.change)),
    ]
    show_fields(fields)
    _show_parts(answer.parts)


def _speed(answer: ServingEstimateObject) -> str:
    alone, together = answer.answer_tokens_per_second, answer.batch_tokens_per_second
    return (
        f"{alone:,.0f} tokens/s of one answer, {together:,.0f} of a batch, {answer.prompt_tokens_per_second:,.0f} read"
    )


def _show_parts(parts: Mapping[str, int]) -> None:
    rows = [(name.replace("_", " "), _gb(size)) for name, size in parts.items()]
    if rows:
        show_table([Column("PART"), Column("MEMORY")], rows, "")


def _change(change: EstimatedChange) -> str:
    if change.device is not None:
        return f"--device {change.device}"
    settings = ", ".join(f"{name}={_json(value)}" for name, value in change.settings.items())
    if change.peak_bytes is None or change.seconds is None:
        return settings
    result = "the same result" if change.keeps_result else "another result"
    return f"{settings}: {_gb(change.peak_bytes)}, {length_text(change.seconds)}, {result}"


def _json(value: Any) -> str:
    return json.dumps(value) if isinstance(value, bool) else str(value)
