"""`lorry envs`: the environments of vLLM, SGLang and LMDeploy on this machine."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.status import Status

from engines.catalog import ENVIRONMENTS
from engines.environments.build import BuildPlan, build_environment
from engines.environments.pinned_list import VARIANTS, list_digest, list_path
from engines.environments.record import (
    EnvironmentRecord,
    environment_folder,
    environment_python,
    environment_state,
    read_record,
)
from engines.errors import EnvironmentFailed
from engines.hardware.machine import Machine
from engines.hardware.probe import read_machine
from gateway.cli.errors import CommandFailed
from gateway.cli.output import JsonFlag, show_json, show_table, stderr_console
from registry.settings import lorry_home

app = typer.Typer(name="envs", no_args_is_help=True)


@app.command("install")
def install(
    kind: Annotated[str, typer.Argument(help=f"One of {', '.join(ENVIRONMENTS)}.")],
    variant: Annotated[
        str | None, typer.Option(help=f"One of {', '.join(VARIANTS)} (default: what this machine has).")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Build one, or go on with one that was interrupted, and import its engine; a finished one is left as it is."""
    home = lorry_home()
    began = time.monotonic()
    plan = BuildPlan(home=home, kind=kind, variant=variant or variant_of(read_machine()))
    console = stderr_console()
    with console.status(f"Looking at {environment_folder(home, kind)}") as status:
        try:
            record = build_environment(plan, _Shown(console, status, kind))
        except EnvironmentFailed as exc:
            raise CommandFailed(str(exc)) from exc
    if as_json:
        show_json(environment_entry(kind))
        return
    typer.echo(
        f"{kind} {record.version} is ready in {environment_folder(home, kind)}, "
        f"{_size(record.size_bytes)} ({time.monotonic() - began:.0f} s)"
    )


@app.command("list")
def list_environments(as_json: JsonFlag = False) -> None:
    """List them: absent, partial (install again to go on), ready, or outdated (its list has changed since)."""
    entries = [environment_entry(kind) for kind in ENVIRONMENTS]
    if as_json:
        show_json(entries)
        return
    rows = ((e["kind"], e["variant"], e["version"], _size(e["size_bytes"]), e["state"], e["folder"]) for e in entries)
    show_table(("KIND", "VARIANT", "VERSION", "SIZE", "STATE", "FOLDER"), rows, "")


def variant_of(hardware: Machine) -> str:
    """The variant for the accelerators of the machine, `cpu` where there are none that a list is for."""
    vendors = [str(device.vendor) for device in hardware.largest_group()]
    return next((vendor for vendor in vendors if vendor in VARIANTS), "cpu")


class _Shown:
    """A build as it is shown: a line for each step, below it what the installer says, the last line moving."""

    def __init__(self, console: Console, status: Status, kind: str) -> None:
        self._console = console
        self._status = status
        self._kind = kind

    def step(self, number: int, total: int, name: str) -> None:
        """Step *number* begins."""
        self._console.print(f"[bold]{self._kind}, step {number} of {total}: {escape(name)}[/bold]")

    def output(self, text: str) -> None:
        """Shown as it comes; on a terminal the last one stays beside the spinner."""
        self._console.print(f"  {escape(text)}", soft_wrap=True, style="dim")
        self._status.update(escape(text[: max(20, self._console.width - 4)]))


def environment_entry(kind: str) -> dict[str, Any]:
    """One environment, as JSON shows it."""
    home = lorry_home()
    record = read_record(home, kind)
    whole = record is not None and record.version is not None
    return {
        "kind": kind,
        "variant": record.variant or None if record else None,
        "version": record.version if record else None,
        "size_bytes": record.size_bytes if record else None,
        "state": environment_state(record, _digest_of_today(record)),
        "folder": str(environment_folder(home, kind)) if record else None,
        "python": str(environment_python(home, kind)) if whole else None,
    }


def _digest_of_today(record: EnvironmentRecord | None) -> str | None:
    """Of the list that the environment would be made from now; None when there is none any more."""
    if record is None or not record.variant:
        return None
    try:
        return list_digest(list_path(record.kind, record.variant))
    except EnvironmentFailed:
        return None


def _size(size_bytes: int | None) -> str | None:
    return None if size_bytes is None else f"{size_bytes / 1e9:.1f} GB"
