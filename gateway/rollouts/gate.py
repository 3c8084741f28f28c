"""The gate of a rollout: has its evaluations made, and decides by their scores. Everything is in the registry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from evaluation.scores import ScoredRow, compare_rows
from evaluation.suite import Suite
from gateway.routing.pinned_weights import pin
from registry.database import Registry
from registry.errors import NotFound
from registry.evaluations.evaluation import Evaluation, EvaluationDraft
from registry.evaluations.evaluation_state import EvaluationState
from registry.evaluations.suite_store import StoredSuite
from registry.rollouts.gate import GatePlan
from registry.rollouts.rollout import Rollout
from registry.types import LOCAL_TENANT

CANARY: Final = "canary"
STABLE: Final = "stable"
CONCURRENCY: Final = 4
"""Rows of a gate that are asked at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateDecision:
    """The outcome of a gate."""

    has_passed: bool
    reason: str
    message: str
    result: Mapping[str, Any]
    """The numbers, as JSON."""

    def verdict(self, step: int) -> dict[str, Any]:
        """Return the decision in the form of the judge's verdicts."""
        decision = "advance" if self.has_passed else "abort"
        words = {"decision": decision, "reason": self.reason, "message": self.message}
        return {**words, "evidence": [], "step": step, "gate": {**self.result, **words}}


def decide_gate(registry: Registry, rollout: Rollout, gate: GatePlan) -> GateDecision | None:
    """Return the decision, None while the evaluations go on; missing evaluations are created."""
    found = registry.evaluations.of_rollout(rollout.id)
    try:
        for side in sides_of(rollout, gate):
            if side not in found:
                found = {**found, side: _create(registry, rollout, gate, side)}
    except NotFound as exc:
        return _failed(gate, f"the gate cannot be asked: {exc}", found)
    for side, each in found.items():
        if each.state in (EvaluationState.FAILED, EvaluationState.CANCELLED):
            why = each.error["message"] if each.error else "it was cancelled"
            return _failed(gate, f"the evaluation {each.id} of the {side} {each.state}: {why}", found)
    if any(each.state is not EvaluationState.COMPLETED for each in found.values()):
        return None
    return _by_scores(registry, gate, found)


def sides_of(rollout: Rollout, gate: GatePlan) -> Sequence[str]:
    """Return the sides that the gate asks: the stable only where its score is compared."""
    with_stable = gate.not_worse_than_stable_by is not None and rollout.stable is not None
    return (CANARY, STABLE) if with_stable else (CANARY,)


def suite_of(gate: GatePlan, found: Mapping[str, Evaluation]) -> str:
    """Return the suite's own name where it is asked: the plan may have a digest, or the id of a file."""
    return next((each.suite_name for each in found.values()), gate.suite)


def progress_text(found: Mapping[str, Evaluation]) -> str:
    """Return how far the evaluations of a gate are, for people."""
    if not found:
        return "its evaluations are about to be created"
    return ", ".join(
        f"{side} {each.state}, {each.done} of {each.total} rows{f' ({each.note})' if each.note else ''}"
        for side, each in sorted(found.items())
    )


def _create(registry: Registry, rollout: Rollout, gate: GatePlan, side: str) -> Evaluation:
    if gate.digest is None:
        raise NotFound(f"the plan names the suite {gate.suite} without its digest")
    stored: StoredSuite = registry.suites.get(gate.digest)
    suite = Suite.model_validate_json(stored.content)
    number = rollout.canary if side == CANARY else rollout.stable
    name = f"{rollout.adapter}@{number}"
    owner = registry.owners.get(rollout.adapter)
    draft = EvaluationDraft(
        asked_name=name,
        model=pin(registry, name),
        judges={judge: pin(registry, judge) for judge in sorted(suite.asked_models())},
        suite_name=gate.suite if gate.suite.startswith("builtin:") else stored.name,
        suite_digest=stored.digest,
        total=stored.rows,
        owner=rollout.actor,
        tenant=LOCAL_TENANT if owner is None else owner.tenant,
        key_id="",
        timeout_s=gate.timeout_s,
        concurrency=CONCURRENCY,
        rollout_id=rollout.id,
        side=side,
    )
    return registry.evaluations.create_for_rollout(draft)


def _failed(gate: GatePlan, message: str, found: Mapping[str, Evaluation]) -> GateDecision:
    result = _facts(gate, found)
    return GateDecision(has_passed=False, reason="gate_failed", message=message, result=result)


def _by_scores(registry: Registry, gate: GatePlan, found: Mapping[str, Evaluation]) -> GateDecision:
    result = _facts(gate, found)
    canary = result[CANARY]
    if gate.min is not None and canary["score"] < gate.min:
        message = f"the canary scores {canary['score']:.3f} in {result['suite']}, and needs {gate.min:g}"
        return GateDecision(has_passed=False, reason="gate_below_min", message=message, result=result)
    passed = [f"the canary scores {canary['score']:.3f} in {result['suite']}"]
    if gate.min is not None:
        passed.append(f"at least {gate.min:g}")
    if gate.not_worse_than_stable_by is not None and STABLE not in found:
        passed.append("there is no stable to compare with")
    elif gate.not_worse_than_stable_by is not None:
        difference = compare_rows(*(_scored(registry, found[side]) for side in (CANARY, STABLE)))
        result = {**result, "difference": asdict(difference)}
        margin = gate.not_worse_than_stable_by
        least = f"with 95 % confidence at least {difference.lower_bound:+.3f}"
        bound = f"{difference.difference:+.3f} beside the stable, {least}"
        if difference.lower_bound < -margin:
            message = f"the canary scores {bound}, and the margin is {-margin:+g}"
            return GateDecision(has_passed=False, reason="gate_worse_than_stable", message=message, result=result)
        passed.append(bound)
    return GateDecision(has_passed=True, reason="gate_passed", message=", ".join(passed), result=result)


def _scored(registry: Registry, evaluation: Evaluation) -> list[ScoredRow]:
    return [
        ScoredRow(id=each.row_id, score=each.score, has_passed=each.has_passed, weight=each.weight)
        for each in registry.evaluations.answers(evaluation.id)
    ]


def _facts(gate: GatePlan, found: Mapping[str, Evaluation]) -> dict[str, Any]:
    return {
        "suite": suite_of(gate, found),
        "suite_digest": gate.digest,
        "min": gate.min,
        "not_worse_than_stable_by": gate.not_worse_than_stable_by,
        "canary": _side(found.get(CANARY)),
        "stable": _side(found.get(STABLE)),
        "difference": None,
    }


def _side(evaluation: Evaluation | None) -> dict[str, Any] | None:
    if evaluation is None:
        return None
    overall = (evaluation.scores or {}).get("overall", {})
    numbers = {name: overall.get(name) for name in ("score", "low", "high", "method", "passed", "rows")}
    names = {"evaluation": evaluation.id, "model": evaluation.model.served_name, "state": str(evaluation.state)}
    return names | numbers
