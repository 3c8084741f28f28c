"""`lorry doctor`: the machine, the Python, the engine environments, and the engine that would serve a model here."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress

from engines.answer_parsers import Parsers, parsers_of_kind
from engines.catalog import ENVIRONMENTS
from engines.environments.record import ready_environments
from engines.errors import DoesNotFit, ModelUnreadable
from engines.hardware.choice import choose, engine_defaults
from engines.hardware.interpreter import Interpreter, read_interpreter
from engines.hardware.machine import GB, Device, Machine
from engines.hardware.probe import read_machine
from engines.hardware.shape import ModelShape, read_shape
from engines.hardware.wishes import Choice, Wishes
from engines.kinds import Precision, Workload
from gateway.cli.envs import environment_entry
from gateway.cli.errors import CommandFailed
from gateway.cli.output import Column, JsonFlag, show, show_fields, show_json, show_table, stderr_console
from gateway.errors import StartFailed
from registry.settings import lorry_home

if TYPE_CHECKING:
    from gateway.cli.operating.artifact_place import ArtifactPlace

app = typer.Typer()


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """The machine, its environments, and the choice of an engine for one model."""

    hardware: Machine
    environments: list[dict[str, Any]]
    model: ModelShape
    choice: Choice | None
    """Choice among the installed environments; None when no engine can serve the model."""
    refusal: str | None
    better: Choice | None
    """Choice if all environments were installed; None unless it is another engine than `choice`."""


@app.command("doctor")
def doctor(
    model: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Hugging Face folder (default: the bundled model).")
    ] = None,
    engine: Annotated[str | None, typer.Option(metavar="KIND", help="Use this kind of engine.")] = None,
    precision: Annotated[Precision | None, typer.Option(help="Use this precision.")] = None,
    context: Annotated[int | None, typer.Option(min=1, help="Longest prompt and answer together, in tokens.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Concurrent sequences.")] = None,
    adapters: Annotated[int | None, typer.Option(min=0, help="Adapter slots; 0 for none.")] = None,
    rank: Annotated[int, typer.Option(min=1, help="Highest rank of an adapter.")] = 64,
    tensor_parallel: Annotated[int | None, typer.Option(min=1, help="Devices that share each layer.")] = None,
    workload: Annotated[Workload, typer.Option(help="What most requests are like.")] = Workload.MIXED,
    as_json: JsonFlag = False,
) -> None:
    """Show hardware, Python, environments, and which engine would serve a model, its sizes and why. Needs no gateway.

    A bucket of artifacts is written, read and cleared. Exit code 1 when nothing can serve the model, or the bucket
    cannot be used.
    """
    wishes = Wishes(
        kind=engine,
        precision=precision,
        context=context,
        batch=batch,
        adapters=adapters,
        rank=rank,
        tensor_parallel=tensor_parallel,
        workload=workload,
        ready=ready_environments(lorry_home()),
    )
    folder = _bundled() if model is None else model
    found = find(read_machine(), _shape(folder), wishes)
    parsers = None if found.choice is None else parsers_of_kind(found.choice.kind, folder)
    interpreter = read_interpreter()
    artifacts = _artifacts()
    if as_json:
        more = {
            "artifacts": asdict(artifacts),
            "interpreter": asdict(interpreter) | {"remark": interpreter.remark},
            "parsers": None if parsers is None else asdict(parsers),
        }
        show_json(as_document(found) | more)
    else:
        _show(found, interpreter, parsers)
        _heading("Artifacts")
        show_fields(
            [("place", artifacts.place), *(() if artifacts.trouble is None else (("trouble", artifacts.trouble),))]
        )
    if found.choice is None or artifacts.trouble is not None:
        raise typer.Exit(1)


def find(hardware: Machine, model: ModelShape, wishes: Wishes) -> Findings:
    """Choose an engine for *model* on *hardware*, with the installed environments and with all of them."""
    choice, refusal = None, None
    try:
        choice = choose(hardware, model, wishes)
    except DoesNotFit as exc:
        refusal = str(exc)
    return Findings(
        hardware=hardware,
        environments=[environment_entry(kind) for kind in ENVIRONMENTS],
        model=model,
        choice=choice,
        refusal=refusal,
        better=_better(hardware, model, wishes, choice),
    )


def as_document(found: Findings) -> dict[str, Any]:
    """Return the findings as JSON; sizes are bytes."""
    return {
        "hardware": _hardware_document(found.hardware),
        "environments": found.environments,
        "model": asdict(found.model),
        "choice": _choice_document(found.choice),
        "refusal": found.refusal,
        "better_with_environment": _choice_document(found.better),
    }


def _better(hardware: Machine, model: ModelShape, wishes: Wishes, now: Choice | None) -> Choice | None:
    """Return the choice if all environments were installed, None if it is the same engine as *now*."""
    try:
        best = choose(hardware, model, replace(wishes, ready=None))
    except DoesNotFit:
        return None
    return None if now is not None and (best.kind, best.hardware) == (now.kind, now.hardware) else best


def _shape(folder: Path) -> ModelShape:
    from gateway.pools.bundled import check_base_folder  # imports the registry's database

    try:
        check_base_folder(folder)
        return read_shape(folder)
    except (StartFailed, ModelUnreadable) as exc:
        raise CommandFailed(str(exc)) from exc


def _artifacts() -> ArtifactPlace:
    from gateway.cli.operating.artifact_place import artifact_place  # imports the settings of all packages

    return artifact_place()


def _bundled() -> Path:
    from gateway.pools.bundled import unpack_bundled

    with Progress(console=stderr_console(), transient=True) as bar:
        line = bar.add_task("Unpacking the bundled model (once)", total=None, visible=False)
        try:
            return unpack_bundled(
                lorry_home() / "cache", lambda done, total: bar.update(line, completed=done, total=total, visible=True)
            )
        except StartFailed as exc:
            raise CommandFailed(str(exc)) from exc


def _hardware_document(hardware: Machine) -> dict[str, Any]:
    document = asdict(hardware)
    document["processor"]["flags"] = sorted(hardware.processor.flags)
    return document


def _choice_document(choice: Choice | None) -> dict[str, Any] | None:
    if choice is None:
        return None
    return {**asdict(choice), "replicas": choice.replicas, "settings": engine_defaults(choice)}


def _show(found: Findings, interpreter: Interpreter, parsers: Parsers | None) -> None:
    processor = found.hardware.processor
    flags = " ".join(sorted(processor.flags))
    _heading("Machine")
    show_fields(
        [
            ("processor", f"{processor.name}, {processor.cores} core(s), {_gb(processor.memory_bytes)}, {flags}"),
            *((f"device {number}", _device(device)) for number, device in enumerate(found.hardware.devices)),
            ("python", f"{interpreter.version} ({interpreter.path})"),
            *(("remark", remark) for remark in found.hardware.remarks),
            ("remark", interpreter.remark),
        ]
    )
    _heading("Environments")
    rows = ((entry["kind"], entry["variant"], entry["version"], entry["state"]) for entry in found.environments)
    columns = [Column(title) for title in ("KIND", "VARIANT", "VERSION", "STATE")]
    show_table(columns, rows, "No kind of engine has an environment.")
    model = found.model
    _heading(f"Choice for {model.name} ({model.parameters / 1e9:.2f} billion parameters, {_gb(model.weight_bytes)})")
    if found.choice is None:
        show(f"nothing can serve it: {found.refusal}", style="red")
    else:
        _show_choice(found.choice, parsers)
    if found.better is not None:
        command = f"lorry envs install {found.better.kind} --variant {found.better.hardware}"
        show(f"With `{command}`: {found.better.reasons[0]}")


def _show_choice(choice: Choice, parsers: Parsers | None) -> None:
    kind, precision, devices, sizes, adapters = choice.reasons
    show_fields(
        [
            ("engine", kind),
            ("precision", precision),
            ("devices", devices),
            ("replicas", f"{choice.replicas}" if choice.devices else None),
            ("sizes", sizes),
            ("adapters", adapters),
            ("parsers", _named(parsers)),
            (
                "would fit",
                f"one sequence of {choice.largest_context} tokens, or {choice.largest_batch} full-length ones",
            ),
        ]
    )


def _named(parsers: Parsers | None) -> str | None:
    """Return the parsers of the engine, None for an engine that needs none."""
    if parsers is None:
        return None
    named = {"tool calls": parsers.calls, "reasoning": parsers.reasoning}
    return ", ".join(f"{what} {name or 'none, by the chat template'}" for what, name in named.items())


def _heading(text: str) -> None:
    show(text, style="bold")


def _device(device: Device) -> str:
    parts = [f"{device.name}, {_gb(device.memory_bytes)}"]
    if device.used_bytes:
        parts.append(f"{_gb(device.used_bytes)} in use")
    if device.capability:
        parts.append("compute capability " + ".".join(map(str, device.capability)))
    if device.architecture:
        parts.append(device.architecture)
    return ", ".join(parts)


def _gb(size: int) -> str:
    return f"{size / GB:.1f} GB"
