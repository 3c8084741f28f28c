"""The `lorry` command: `up` runs everything, `envs` and `doctor` describe this machine, the rest ask a gateway."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

import typer
from typer.core import TyperGroup

from gateway.cli.deferred import DeferredCommand
from gateway.cli.errors import CommandFailed
from gateway.cli.output import fail

COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "up": (
        "gateway.cli.up",
        "Run gateway, engine, controller and trainer on Ray Serve until Ctrl-C; prints one line when it is ready.",
    ),
    "rollback": (
        "gateway.cli.rollout.rollback",
        "Abort the open rollout, or make the former stable revision stable again.",
    ),
    "doctor": (
        "gateway.cli.doctor",
        "Show hardware, environments, and which engine would serve a model, in which sizes and why. Needs no gateway.",
    ),
    "audit": ("gateway.cli.audit", "List what was done by whom, newest first."),
    "models": ("gateway.cli.models.commands", "Base models, adapters and pinned revisions."),
    "train": ("gateway.cli.train", "Train an adapter."),
    "jobs": ("gateway.cli.jobs", "Jobs of the trainer: fine-tunes and publications."),
    "reproduce": (
        "gateway.cli.training.reproduce",
        "Run the job of a revision again and report whether the same comes out; publishes nothing.",
    ),
    "bases": ("gateway.cli.models.bases", "Base models: entered folders, and checkpoints that jobs made."),
    "adapters": ("gateway.cli.adapters", "Adapters and their revisions."),
    "rollout": ("gateway.cli.rollout.commands", "Give a revision a rising share of its adapter's traffic."),
    "feedback": ("gateway.cli.feedback", "Ratings of answers."),
    "graders": ("gateway.cli.training.graders", "Graders of reinforcement fine-tuning."),
    "data": ("gateway.cli.training.data", "Training files."),
    "replicas": ("gateway.cli.replicas", "The inference servers and what they have loaded."),
    "keys": ("gateway.cli.keys", "API keys."),
    "envs": ("gateway.cli.envs", "Environments of the engines that cannot live in Lorry's own."),
}
"""Name of a command -> the module whose `app` has it, and its line in `lorry --help`, in the order of that page."""


class _Lorry(TyperGroup):
    """The group of all `COMMANDS`, none of them imported."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, (module, help_line) in COMMANDS.items():
            self.add_command(DeferredCommand(name, module, help_line))


app = typer.Typer(
    name="lorry",
    cls=_Lorry,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.callback()
def lorry() -> None:
    """Serve and train LoRA adapters. Commands talk to the gateway at LORRY_URL (default http://127.0.0.1:8080)."""


def main(words: Sequence[str] | None = None) -> None:
    """Run the command of *words* (default: `sys.argv`) and exit: 0 done, 1 failed, 2 not understood, 130 on Ctrl-C."""
    try:
        app(words)
    except CommandFailed as exc:
        fail(str(exc))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
