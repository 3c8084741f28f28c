"""`lorry rollout` and `lorry rollback`: moving traffic by hand."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from gateway.cli.adapters import revision_name
from gateway.cli.client import Client, CommandFailed
from gateway.cli.output import JsonFlag, ago, show_fields, show_json, show_table

app = typer.Typer(help="Give a revision a rising share of its adapter's traffic.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Adapter.")]
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_LOAD_WAIT_S = 60.0


@app.command("start")
def start(
    revision: Annotated[str, typer.Argument(help="NAME@N")],
    steps: Annotated[str, typer.Option(help="Percents of traffic, rising to 100.")] = "5,25,50,100",
    every: Annotated[
        str | None, typer.Option(help="Go on after this time, for example 60s; without it `promote` goes on.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Open a rollout and return when its first step takes traffic."""
    adapter, number = revision_name(revision)
    body = {"revision": number, "steps": parse_steps(steps), "every_s": parse_duration(every)}
    client = Client()
    rollout = client.post(f"/admin/adapters/{adapter}/rollouts", body)
    deadline = time.monotonic() + _LOAD_WAIT_S
    while rollout["state"] == "pending" and time.monotonic() < deadline:
        time.sleep(0.25)
        rollout = client.get(f"/admin/rollouts/{rollout['id']}")
    _show(rollout, as_json)
    if rollout["state"] == "aborted":
        raise CommandFailed(f"the rollout was aborted: {rollout['message'] or rollout['reason']}")


@app.command("status")
def status(name: Name, as_json: JsonFlag = False) -> None:
    """Show the adapter's latest rollout and its events."""
    client = Client()
    _show(client.get(f"/admin/rollouts/{_latest(client, name)['id']}"), as_json)


@app.command("history")
def history(name: Name, as_json: JsonFlag = False) -> None:
    """List the adapter's rollouts, newest first."""
    rollouts = Client().get("/admin/rollouts", adapter=name)["data"]
    if as_json:
        show_json(rollouts)
        return
    rows = (
        (r["id"], r["canary"], r["stable"], r["state"], r["reason"], r["actor"], ago(r["created_at"])) for r in rollouts
    )
    show_table(("ROLLOUT", "CANARY", "STABLE", "STATE", "REASON", "BY", "STARTED"), rows, f"{name} has had no rollout.")


@app.command("promote")
def promote(
    name: Name,
    full: Annotated[bool, typer.Option("--full", help="Skip the steps between and make it stable now.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Go to the next step; the one at 100 makes the canary stable."""
    _move(name, "promote", {"full": full}, as_json)


@app.command("pause")
def pause(name: Name, as_json: JsonFlag = False) -> None:
    """Hold the weight where it is."""
    _move(name, "pause", None, as_json)


@app.command("resume")
def resume(name: Name, as_json: JsonFlag = False) -> None:
    """Go on after a pause."""
    _move(name, "resume", None, as_json)


@app.command("abort")
def abort(name: Name, as_json: JsonFlag = False) -> None:
    """Give the stable revision all traffic back."""
    _move(name, "abort", None, as_json)


def rollback(
    name: Name,
    to: Annotated[
        int | None, typer.Option(help="Number of the revision; default: the one that was stable before.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Abort the open rollout, or make the former stable revision stable again."""
    _show(Client().post(f"/admin/adapters/{name}/rollback", {} if to is None else {"to": to}), as_json)


def parse_steps(text: str) -> list[int]:
    """`5,25,100` -> [5, 25, 100]; exit code 2 for anything else than numbers."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as exc:
        raise typer.BadParameter(f"--steps {text!r}: write percents with commas, for example 5,25,100") from exc


def parse_duration(text: str | None) -> float | None:
    """`90`, `90s`, `5m` or `1h` in seconds; exit code 2 for anything else."""
    if text is None:
        return None
    number, unit = (text[:-1], text[-1]) if text and text[-1] in _UNITS else (text, "s")
    try:
        return float(number) * _UNITS[unit]
    except ValueError as exc:
        raise typer.BadParameter(f"--every {text!r}: write a time, for example 60s, 5m or 1h") from exc


def _move(name: str, move: str, body: Any, as_json: bool) -> None:
    client = Client()
    rollout = _latest(client, name)
    _show(client.post(f"/admin/rollouts/{rollout['id']}/{move}", body), as_json)


def _latest(client: Client, name: str) -> dict[str, Any]:
    client.get(f"/admin/adapters/{name}")
    rollouts = client.get("/admin/rollouts", adapter=name, limit=1)["data"]
    if not rollouts:
        raise CommandFailed(f"{name} has had no rollout; begin one with `lorry rollout start {name}@N`")
    latest: dict[str, Any] = rollouts[0]
    return latest


def _show(rollout: dict[str, Any], as_json: bool) -> None:
    if as_json:
        show_json(rollout)
        return
    current = rollout["step"] if rollout["canary_weight"] else None
    steps = " -> ".join(f"({step})" if at == current else str(step) for at, step in enumerate(rollout["steps"]))
    show_fields(
        [
            ("rollout", rollout["id"]),
            ("canary", f"{rollout['canary']} (stable when it began: {rollout['stable']})"),
            ("state", f"{rollout['state']} ({rollout['reason']})"),
            ("steps", steps),
            ("canary takes", f"{rollout['canary_weight']} %"),
            ("message", rollout["message"] or None),
        ]
    )
    rows = ((ago(e["at"]), e["state"], rollout["steps"][e["step"]], e["reason"], e["actor"]) for e in rollout["events"])
    show_table(("WHEN", "STATE", "STEP", "REASON", "BY"), rows, "")
