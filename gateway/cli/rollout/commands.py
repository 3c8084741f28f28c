"""`lorry rollout`: move traffic to a revision, by evidence or by hand."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Final

import typer

from gateway.cli.client import Client, part
from gateway.cli.completion.arguments import AdapterName, RevisionName
from gateway.cli.errors import CommandFailed
from gateway.cli.following.live_line import LiveLine
from gateway.cli.following.serving_progress import serving_text, slots_of
from gateway.cli.output import (
    Column,
    JsonFlag,
    WideFlag,
    moments,
    numbers_of_revisions,
    screen_of,
    short_ids,
    show_json,
    show_lines,
    show_table,
    stderr_console,
)
from gateway.cli.rollout.forced import force
from gateway.cli.rollout.gate_flags import GateFlag, GateMarginFlag, GateMinFlag, gate_of, with_stored_suite
from gateway.cli.rollout.page import grounds_of, page
from gateway.cli.rollout.plans import (
    DEFAULT_STEPS,
    PLAN_FLAGS,
    EveryFlag,
    GuardrailFlag,
    JudgeFlag,
    MinSamplesFlag,
    ShadowJudgeFlag,
    plan_body,
    plan_from_file,
)
from gateway.cli.rollout.watch import watch
from gateway.cli.short_ids import revision_named, rollout_id
from gateway.objects.lists import ObjectList
from gateway.objects.operations import ReplicaObject
from gateway.objects.rollouts import RolloutObject, RolloutStory
from registry.rollouts.rollout_state import RolloutState

app = typer.Typer(name="rollout", no_args_is_help=True)
app.command("force")(force)

_LOAD_WAIT_S: Final = 60.0
_APPEAR_S: Final = 1.0
"""How long a replica that is about to be started may not have reported yet."""
HISTORY_COLUMNS: Final = (
    Column("ROLLOUT", 1, short_ids),
    Column("FROM", 1, numbers_of_revisions),
    Column("TO", 0, numbers_of_revisions),
    Column("STATE"),
    Column("REASON", 3),
    Column("BY", 4),
    Column("STARTED", 2, moments),
    Column("EVIDENCE", below=True),
)


@app.command("start")
def start(
    revision: RevisionName,
    plan: Annotated[
        Path | None, typer.Option("--plan", metavar="FILE", help="TOML file with the plan; flags override it.")
    ] = None,
    steps: Annotated[
        str | None,
        typer.Option(
            metavar="STEPS", help=f"Percentages of traffic up to 100, or shadow:PERCENT first ({DEFAULT_STEPS})."
        ),
    ] = None,
    every: EveryFlag = None,
    guardrail: GuardrailFlag = None,
    min_samples: MinSamplesFlag = None,
    judge: JudgeFlag = True,
    shadow_judge: ShadowJudgeFlag = None,
    gate: GateFlag = None,
    gate_min: GateMinFlag = None,
    gate_margin: GateMarginFlag = None,
    follow: Annotated[
        bool,
        typer.Option("--follow", help="Stay until it has ended, like `status --watch`; exit code 1 if aborted."),
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Open a rollout and return when its first step begins, or with the reason where no replica serves its base model.

    The rollout advances by itself when the evidence suffices, and is aborted when the canary is worse.
    """
    body = plan_body(
        plan_from_file(plan),
        steps=steps,
        every=every,
        guardrails=guardrail,
        min_samples=min_samples,
        judge=judge,
        shadow_judge=shadow_judge,
        gate=gate_of(gate, gate_min, gate_margin),
    )
    with Client(flags=PLAN_FLAGS) as client:
        body = with_stored_suite(client, body)
        adapter, number = revision_named(client, revision)
        rollout = client.post(f"/admin/adapters/{part(adapter)}/rollouts", RolloutStory, body | {"revision": number})
        if follow:
            watch(client, rollout.id, as_json)
            return
        rollout = _loaded(client, rollout)
    show_rollout(rollout, as_json)
    if rollout.state is RolloutState.ABORTED:
        raise CommandFailed(f"the rollout was aborted: {rollout.message or rollout.reason}")


def _loaded(client: Client, rollout: RolloutStory) -> RolloutStory:
    """Show how replicas load and prove the canary, and return the rollout when its first step begins.

    The rollout is returned sooner where no replica will load the canary, and after `_LOAD_WAIT_S` in any case.
    """
    began = time.monotonic()
    with LiveLine(stderr_console()) as line:
        while rollout.state is RolloutState.PENDING and time.monotonic() - began < _LOAD_WAIT_S:
            if rollout.obstacle is not None and time.monotonic() - began > _APPEAR_S:
                break
            replicas = client.get("/admin/replicas", ObjectList[ReplicaObject]).data
            holding = [each for each in replicas if slots_of(rollout.canary, [each])]
            line.show(serving_text(rollout.canary, slots_of(rollout.canary, holding), len(holding)))
            time.sleep(0.25)
            rollout = client.get(f"/admin/rollouts/{rollout.id}", RolloutStory)
    return rollout


@app.command("status")
def status(
    name: AdapterName,
    watching: Annotated[bool, typer.Option("--watch", help="Watch until it ends; exit code 1 if aborted.")] = False,
    wide: WideFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Show the adapter's latest rollout, the evidence that it is judged on, and its moves."""
    with Client() as client:
        latest = _latest(client, name)
        if watching:
            watch(client, latest.id, as_json)
            return
        show_rollout(client.get(f"/admin/rollouts/{latest.id}", RolloutStory), as_json, wide=wide)


@app.command("history")
def history(name: AdapterName, wide: WideFlag = False, as_json: JsonFlag = False) -> None:
    """List the adapter's rollouts, newest first, with the reason and the evidence of their ends."""
    with Client() as client:
        rollouts = client.get("/admin/rollouts", ObjectList[RolloutObject], adapter=name).data
    if as_json:
        show_json(rollouts)
        return
    rows = (
        (
            each.id,
            each.stable,
            each.canary,
            each.state,
            each.reason,
            each.actor,
            each.created_at,
            grounds_of(each),
        )
        for each in rollouts
    )
    show_table(HISTORY_COLUMNS, rows, f"{name} has had no rollout.", wide=wide)


@app.command("promote")
def promote(
    name: AdapterName,
    full: Annotated[bool, typer.Option("--full", help="Skip the steps between and make it stable now.")] = False,
    skip_gate: Annotated[
        str | None,
        typer.Option("--skip-gate", metavar="REASON", help="Begin without a decision of the gate; the reason is kept."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Go to the next step; the one at 100 makes the canary stable."""
    with Client(flags=PLAN_FLAGS) as client:
        rollout = _latest(client, name)
        # Of two people who promote at the same time only one moves the rollout.
        body = {"full": full, "step": rollout.step, "skip_gate": skip_gate}
        show_rollout(client.post(f"/admin/rollouts/{rollout.id}/promote", RolloutStory, body), as_json)


@app.command("pause")
def pause(name: AdapterName, as_json: JsonFlag = False) -> None:
    """Pause the rollout at its present weight."""
    _move(name, "pause", as_json)


@app.command("resume")
def resume(name: AdapterName, as_json: JsonFlag = False) -> None:
    """Resume a paused rollout."""
    _move(name, "resume", as_json)


@app.command("abort")
def abort(name: AdapterName, as_json: JsonFlag = False) -> None:
    """Abort the rollout: the stable revision gets all traffic again."""
    _move(name, "abort", as_json)


def _move(name: str, move: str, as_json: bool) -> None:
    with Client() as client:
        rollout = _latest(client, name)
        show_rollout(client.post(f"/admin/rollouts/{rollout.id}/{move}", RolloutStory), as_json)


def _latest(client: Client, name: str) -> RolloutObject:
    """Return the latest rollout of the adapter, or the one that *name* is the id of."""
    if (found := rollout_id(client, name)) is not None:
        return client.get(f"/admin/rollouts/{found}", RolloutStory)
    rollouts = client.get("/admin/rollouts", ObjectList[RolloutObject], adapter=name, limit=1).data
    if not rollouts:
        raise CommandFailed(f"{name} has had no rollout; start one with `lorry rollout start {name}@N`")
    return rollouts[0]


def show_rollout(rollout: RolloutStory, as_json: bool, *, wide: bool = False) -> None:
    """Print a rollout as a page or as JSON."""
    if as_json:
        show_json(rollout)
    else:
        show_lines(page(rollout, screen_of(wide=wide)))
