"""`lorry envs`: the environments of engines and tools on this machine."""

from __future__ import annotations

import time
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.status import Status

from engines.environments.build import BuildPlan, build_environment
from engines.environments.catalog import BUILT
from engines.environments.pinned_list import VARIANTS, has_list, list_digest, list_path
from engines.environments.record import (
    EnvironmentRecord,
    environment_folder,
    environment_python,
    environment_state,
    read_record,
)
from engines.environments.removal import remove_environment
from engines.errors import EnvironmentFailed
from engines.hardware.machine import Machine
from engines.hardware.probe import read_machine
from gateway.cli.errors import CommandFailed
from gateway.cli.output import Column, JsonFlag, WideFlag, show_json, show_table, stderr_console
from registry.disk import make_private
from registry.settings import lorry_home

app = typer.Typer(name="envs", no_args_is_help=True)

COLUMNS: Final = (
    Column("KIND"),
    Column("VARIANT", 2),
    Column("VERSION", 1),
    Column("SIZE GB", 3),
    Column("STATE"),
    Column("FOLDER", below=True),
)


@app.command("install")
def install(
    kind: Annotated[str, typer.Argument(metavar="KIND", help=f"One of {', '.join(BUILT)}.")],
    variant: Annotated[
        str | None,
        typer.Option(metavar="VARIANT", help=f"One of {', '.join(VARIANTS)} (default: what this machine has)."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Build an environment, or resume an interrupted build, and try it; a finished one stays as it is."""
    home = lorry_home()
    began = time.monotonic()
    plan = BuildPlan(home=home, kind=kind, variant=variant or variant_of(kind, read_machine()))
    console = stderr_console()
    with console.status(f"Looking at {environment_folder(home, kind)}") as status:
        try:
            make_private(home)
            record = build_environment(plan, _Shown(console, status, kind))
        except EnvironmentFailed as exc:
            raise CommandFailed(str(exc)) from exc
        except OSError as exc:
            raise CommandFailed(f"LORRY_HOME {home} is not writable: {exc.strerror}: {exc.filename}") from exc
    if as_json:
        show_json(environment_entry(kind))
        return
    typer.echo(
        f"{kind} {record.version} is ready in {environment_folder(home, kind)}, "
        f"{_gigabytes(record.size_bytes)} GB ({time.monotonic() - began:.0f} s)"
    )


@app.command("list")
def list_environments(wide: WideFlag = False, as_json: JsonFlag = False) -> None:
    """List environments: absent, partial (install again to resume), ready, or outdated (its list has changed)."""
    entries = [environment_entry(kind) for kind in BUILT]
    if as_json:
        show_json(entries)
        return
    rows = (
        (e["kind"], e["variant"], e["version"], _gigabytes(e["size_bytes"]), e["state"], e["folder"]) for e in entries
    )
    show_table(COLUMNS, rows, "No kind of engine has an environment.", wide=wide)


@app.command("remove")
def remove(
    kind: Annotated[str, typer.Argument(metavar="KIND", help=f"One of {', '.join(BUILT)}.")],
    as_json: JsonFlag = False,
) -> None:
    """Remove an environment from the disk; refused while a process of it runs."""
    home = lorry_home()
    try:
        folder = remove_environment(home, kind)
    except EnvironmentFailed as exc:
        raise CommandFailed(str(exc)) from exc
    if as_json:
        show_json({"kind": kind, "removed": folder is not None})
        return
    typer.echo(f"Removed {folder}" if folder else f"There is no environment for {kind} below {home}")


def variant_of(kind: str, hardware: Machine) -> str:
    """Return the variant for the machine's accelerators, `cpu` where *kind* has no list for them."""
    vendors = [str(device.vendor) for device in hardware.largest_group()]
    return next((vendor for vendor in vendors if vendor in VARIANTS and has_list(kind, vendor)), "cpu")


class _Shown:
    """Shows a build: a line for each step, then the installer's output, with its last line beside the spinner."""

    def __init__(self, console: Console, status: Status, kind: str) -> None:
        self._console = console
        self._status = status
        self._kind = kind

    def step(self, number: int, total: int, name: str) -> None:
        """Print the headline of step *number*."""
        self._console.print(f"[bold]{self._kind}, step {number} of {total}: {escape(name)}[/bold]")

    def output(self, text: str) -> None:
        """Print a line of the installer; a terminal also shows it beside the spinner."""
        self._console.print(f"  {escape(text)}", soft_wrap=True, style="dim")
        self._status.update(escape(text[: max(20, self._console.width - 4)]))


def environment_entry(kind: str) -> dict[str, Any]:
    """Return one environment as JSON."""
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
    """Return the digest of the list from which the environment would be built today; None if the list is gone."""
    if record is None or not record.variant:
        return None
    try:
        return list_digest(list_path(record.kind, record.variant))
    except EnvironmentFailed:
        return None


def _gigabytes(size_bytes: int | None) -> str | None:
    return None if size_bytes is None else f"{size_bytes / 1e9:.1f}"
