"""The `lorry` command: `up` runs everything, `envs` and `doctor` are about this machine, the rest ask a gateway."""

from __future__ import annotations

import sys

import typer

from gateway.cli import adapters, audit, data, doctor, envs, jobs, keys, models, replicas, rollouts, train, up
from gateway.cli.client import CommandFailed
from gateway.cli.output import fail

app = typer.Typer(
    name="lorry",
    help="Serve and train LoRA adapters. Commands talk to the gateway at LORRY_URL (default http://127.0.0.1:8080).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("up")(up.up)
app.add_typer(models.app, name="models")
app.add_typer(train.app, name="train")
app.add_typer(jobs.app, name="jobs")
app.add_typer(adapters.app, name="adapters")
app.add_typer(rollouts.app, name="rollout")
app.command("rollback")(rollouts.rollback)
app.add_typer(data.app, name="data")
app.add_typer(replicas.app, name="replicas")
app.add_typer(keys.app, name="keys")
app.add_typer(envs.app, name="envs")
app.command("doctor")(doctor.doctor)
app.command("audit")(audit.list_audit)


def main() -> None:
    """Exit code 0 when it was done, 1 when it failed, 2 when the command was not understood."""
    try:
        app()
    except CommandFailed as exc:
        fail(str(exc))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
