"""The `lorry` command: `up` runs everything, `envs` and `doctor` describe this machine, the rest ask a gateway."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, NamedTuple, NoReturn

import typer
from typer._click import Context

from gateway.cli.deferred import DeferredCommand
from gateway.cli.errors import CommandFailed
from gateway.cli.help.page import HelpedGroup, Rows
from gateway.cli.output import fail

PLUGINS_OFF: Final = ("PYDANTIC_DISABLE_PLUGINS", "__all__")
"""Keeps pydantic from reading the metadata of every installed package, which takes 50 ms."""
COMPLETE: Final = "_LORRY_COMPLETE"
"""Set by the shell that completes a command line, see `gateway.cli.completion`."""


class Listed(NamedTuple):
    """A command on the page of all commands."""

    module: str
    """The module whose `app` has the command."""
    section: str
    help_line: str


COMMANDS: Final[Mapping[str, Listed]] = {
    "up": Listed(
        "gateway.cli.up",
        "Serve",
        "Run gateway, engine, controller and trainer on Ray Serve until Ctrl-C; prints one line when it is ready.",
    ),
    "down": Listed(
        "gateway.cli.operating.down",
        "Serve",
        "Drain gateways and engines that `lorry up --ray-address` left on a Ray cluster, and remove them from it.",
    ),
    "doctor": Listed(
        "gateway.cli.doctor",
        "Serve",
        "Show hardware, environments, and which engine would serve a model, in which sizes and why. Needs no gateway.",
    ),
    "envs": Listed(
        "gateway.cli.envs",
        "Serve",
        "Environments of engines and tools that cannot live in Lorry's own: build, list, remove.",
    ),
    "train": Listed("gateway.cli.train", "Train", "Train an adapter, one command for each method."),
    "trainer": Listed(
        "gateway.cli.training.trainer",
        "Train",
        "Work on the registry's jobs on this machine until Ctrl-C, which gives a job back with its checkpoints.",
    ),
    "estimate": Listed(
        "gateway.cli.training.estimate",
        "Train",
        "What a job or an engine would take: memory by part, time, what fits. A model's folder needs no gateway.",
    ),
    "jobs": Listed("gateway.cli.jobs", "Train", "Jobs of the trainer: list, show, follow, cancel, pause, resume."),
    "data": Listed("gateway.cli.training.data", "Train", "Training data: convert, check and review it."),
    "graders": Listed(
        "gateway.cli.training.graders", "Train", "Graders of reinforcement fine-tuning: check one, try it on a sample."
    ),
    "merge": Listed(
        "gateway.cli.models.merge",
        "Train",
        "Merge a revision into its base model; the result is a checkpoint.",
    ),
    "export": Listed(
        "gateway.cli.models.export",
        "Train",
        "Take a model out of Lorry: a folder, a hub's repository, a GGUF file, a folder for Ollama.",
    ),
    "quantize": Listed(
        "gateway.cli.models.quantize",
        "Train",
        "Quantize a model to 4 or 8 bits, scored before and after; the result is a checkpoint.",
    ),
    "reproduce": Listed(
        "gateway.cli.training.reproduce",
        "Train",
        "Run the job of a revision again and report whether the same comes out; publishes nothing.",
    ),
    "rollout": Listed(
        "gateway.cli.rollout.commands", "Roll out", "Give a revision a rising share of its adapter's traffic."
    ),
    "rollback": Listed(
        "gateway.cli.rollout.rollback",
        "Roll out",
        "Abort the open rollout, or make the former stable revision stable again.",
    ),
    "eval": Listed(
        "gateway.cli.evaluating.commands",
        "Roll out",
        "Ask suites of models: scores with intervals, compared row by row, as a page.",
    ),
    "feedback": Listed("gateway.cli.feedback", "Roll out", "Ratings of answers, by revision and one by one."),
    "status": Listed(
        "gateway.cli.operating.status", "Inspect", "Show on one page what runs, what moves, and what needs a person."
    ),
    "ps": Listed("gateway.cli.operating.ps", "Inspect", "List the inference servers: adapters, requests, memory, age."),
    "chat": Listed(
        "gateway.cli.operating.chat", "Inspect", "Chat in the terminal with one model, or two side by side."
    ),
    "batches": Listed(
        "gateway.cli.batches.commands",
        "Inspect",
        "Files of requests that are answered beside all others: create, list, show, cancel, download.",
    ),
    "models": Listed(
        "gateway.cli.models.commands",
        "Inspect",
        "Every name that a request may carry: list, show. Models from hubs: pull, verify, remove.",
    ),
    "lineage": Listed(
        "gateway.cli.models.lineage",
        "Inspect",
        "What a model, a job or a data file came from and what was made of it; as SLSA provenance too.",
    ),
    "adapters": Listed(
        "gateway.cli.adapters", "Inspect", "Adapters and their revisions: list, show, publish, retire, owner."
    ),
    "replicas": Listed(
        "gateway.cli.replicas", "Administer", "Inference servers in detail; add one that was started elsewhere."
    ),
    "keys": Listed("gateway.cli.keys", "Administer", "API keys: create, list, revoke."),
    "audit": Listed("gateway.cli.audit", "Administer", "List what was done by whom, newest first."),
    "backup": Listed(
        "gateway.cli.backups.backup",
        "Administer",
        "Copy the registry of this machine, with its artifacts, while Lorry runs. Needs no gateway.",
    ),
    "restore": Listed(
        "gateway.cli.backups.restore", "Administer", "Write a backup into the empty registry of this machine."
    ),
    "completion": Listed(
        "gateway.cli.completion.command", "Administer", "Print what makes a shell complete commands and names."
    ),
}
"""Name of a command -> its place on the page of `lorry --help`, in the order of that page."""


class _Lorry(HelpedGroup):
    """The group of all `COMMANDS`, none of them imported."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, listed in COMMANDS.items():
            self.add_command(DeferredCommand(name, listed.module, listed.help_line))

    def sections(self, ctx: Context) -> Mapping[str, Rows]:
        """Return the commands by what a person wants to do."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, listed in COMMANDS.items():
            sections.setdefault(listed.section, []).append((name, listed.help_line))
        return sections


app = typer.Typer(
    name="lorry",
    cls=_Lorry,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # 10 ms that no other command needs

        typer.echo(f"lorry {version('lorry')}")
        raise typer.Exit


@app.callback()
def lorry(
    _version: Annotated[
        bool, typer.Option("--version", "-V", is_eager=True, callback=_print_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """Serve and train LoRA adapters, and move traffic to them step by step.

    Commands talk to the gateway at LORRY_URL (default http://127.0.0.1:8080) with the key in LORRY_API_KEY.
    `lorry COMMAND -h` describes a command, with examples. Every command that reads has --json. Data goes to standard
    output, everything else to standard error. Exit codes: 0 done, 1 failed, 2 not understood, 130 ended by Ctrl-C,
    143 by SIGTERM.
    """


def main(words: Sequence[str] | None = None) -> None:
    """Run the command of *words* (default: `sys.argv`) and exit: 0 done, 1 failed, 2 not understood, 130 on Ctrl-C."""
    os.environ.setdefault(*PLUGINS_OFF)
    if COMPLETE in os.environ:
        from typer._completion_classes import completion_init

        completion_init()
    if words is None:
        _end_in_order()
    try:
        app(words, prog_name="lorry")
    except CommandFailed as exc:
        fail(str(exc))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _end_in_order() -> None:
    """Let a signal that ends this process do so as an exception does: files that are half written are removed."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # `nohup` ignores SIGHUP
            signal.signal(number, _end)


def _end(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)
