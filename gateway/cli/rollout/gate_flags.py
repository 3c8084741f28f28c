"""The gate of a rollout, from flags and plans, and as `lorry rollout status` shows it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from gateway.cli.client import Client
from gateway.cli.errors import CommandFailed
from gateway.objects.rollouts import GateSide, RolloutObject

_FILES: Final = (".jsonl", ".toml", ".json")

GateFlag = Annotated[
    str | None,
    typer.Option(
        "--gate",
        metavar="SUITE",
        help="Suite that the canary is asked before its first step: a file, builtin:NAME, or a stored suite's digest.",
    ),
]
GateMinFlag = Annotated[
    float | None, typer.Option("--gate-min", min=0, max=1, help="Lowest score in the gate's suite.")
]
GateMarginFlag = Annotated[
    float | None,
    typer.Option("--gate-margin", min=0, max=1, help="How much lower than the stable's the score may be, with 95 %."),
]


def gate_of(suite: str | None, least: float | None, margin: float | None) -> dict[str, Any] | None:
    """Return the gate of the flags; exit code 2 for numbers without a suite. None without flags."""
    if suite is None:
        if least is not None or margin is not None:
            raise typer.BadParameter("--gate-min and --gate-margin need --gate SUITE")
        return None
    numbers = {"min": least, "not_worse_than_stable_by": margin}
    return {"suite": suite, **{name: value for name, value in numbers.items() if value is not None}}


def with_stored_suite(client: Client, body: dict[str, Any]) -> dict[str, Any]:
    """Return the plan *body* whose gate names an uploaded file, where it named one of this machine."""
    gate = body.get("gate")
    if not isinstance(gate, Mapping) or not str(gate.get("suite", "")).lower().endswith(_FILES):
        return body
    from evaluation.errors import SuiteInvalid
    from evaluation.suite_files import parse_suite
    from gateway.objects.files import FileObject

    path = Path(str(gate["suite"])).expanduser()
    try:
        content = path.read_bytes()
        parse_suite(path.name, content)
    except OSError as exc:
        raise CommandFailed(f"gate: {path}: {exc.strerror}") from exc
    except SuiteInvalid as exc:
        raise CommandFailed(f"gate: {exc}") from exc
    file = client.upload("/v1/files", FileObject, path.name, content, purpose="evals")
    return {**body, "gate": {**gate, "suite": file.id}}


def gate_facts(rollout: RolloutObject) -> dict[str, str | None]:
    """Return what the gate asks, and what it found."""
    gate, result = rollout.gate, rollout.gate_result
    if gate is None:
        return {}
    asks = [gate.suite if result is None else result.suite]
    if gate.min is not None:
        asks.append(f"at least {gate.min:g}")
    if gate.not_worse_than_stable_by is not None:
        asks.append(f"not worse than stable by {gate.not_worse_than_stable_by:g}")
    if result is None:
        return {"gate": ", ".join(asks)}
    found, difference = result.difference, None
    if found is not None:
        least = f"at least {found.lower_bound:+.3f} with 95 %"
        difference = f"{found.difference:+.3f}, {least} (p = {found.p_scores:.3f})"
    return {
        "gate": f"{', '.join(asks)}: {'passed' if result.decision == 'advance' else result.reason}",
        "gate canary": _side(result.canary),
        "gate stable": _side(result.stable),
        "gate difference": difference,
    }


def _side(side: GateSide | None) -> str | None:
    if side is None or side.score is None:
        return None if side is None else f"{side.state}, {side.evaluation}"
    numbers = f"{side.score:.3f}, 95 % from {side.low:.3f} to {side.high:.3f}"
    return f"{numbers}, {side.passed} of {side.rows} passed, {side.evaluation}"
