"""The reconcile loop: one idempotent step brings rollouts, replicas and leases nearer to their desired state.

Two controllers at once do no harm, since every move is compare-and-set and the loser finds it done at its next step. A
controller that is killed between two moves leaves nothing half done, since each move follows from the registry alone.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from gateway.errors import GateUndecided, StillLoading
from gateway.rollouts.gate import decide_gate, progress_text
from gateway.rollouts.judge.judge import Decision, judge, judge_watch
from gateway.rollouts.judge.traffic import traffic_of
from gateway.rollouts.judge.unjudged import unjudged_of
from gateway.routing.placement import first_numbers
from gateway.routing.readiness import Readiness, readiness_of
from gateway.settings import GatewaySettings
from registry.database import Registry, Snapshot
from registry.errors import IllegalMove, NotServable, RolloutOpen, StaleState
from registry.jobs.scheduling.giving_way import GiveWayRules
from registry.publishing.checkpoints import expire_checkpoints
from registry.rollouts.gate import GatePlan
from registry.rollouts.guardrails import GuardrailPlan
from registry.rollouts.rollout import Rollout
from registry.rollouts.rollout_state import RolloutState
from registry.rollouts.tally import comparable

log = logging.getLogger(__name__)

JUDGE_EVERY_S: Final = 1.0
"""How often a rollout is judged; gateways report their counts to the registry once a second."""
WORKER_SILENT_S: Final = 30.0
"""How long a worker of the trainer may send no report before it is forgotten; it sends one every 5 s."""


def reconcile(registry: Registry, knobs: GatewaySettings, now: float, *, trusts_silence: bool = True) -> bool:
    """Do one step: expire silent replicas, leases and checkpoints, give new adapters their stable, and move rollouts.

    Return whether a rollout was open, which time alone may move.

    After a time in which nobody could report, *trusts_silence* is False: then silence shows nothing, and expires none.
    """
    # Silent replicas go first, since the moves below follow from the replicas in the snapshot.
    if trusts_silence:
        registry.replicas.expire(knobs.heartbeat_timeout_s)
        registry.jobs.expire_leases()
        registry.workers.expire(WORKER_SILENT_S)
    _make_room(registry, knobs)
    registry.uses.forget_old()
    registry.evaluations.expire()
    snapshot = registry.snapshot()
    registry.checkpoints.expire(snapshot.checkpoints)
    expire_checkpoints(registry, snapshot)
    _give_first_stables(registry, snapshot)
    for rollout in snapshot.rollouts:
        try:
            _step(registry, snapshot, rollout, now)
        except StaleState:
            log.info("rollout was moved by another process", extra={"rollout_id": rollout.id})
    # an adapter with an open rollout is judged by that one; a second rollout could not be begun anyway
    busy = {rollout.adapter for rollout in snapshot.rollouts}
    for promoted in registry.rollouts.revocable(now - knobs.rollback_window_s):
        guardrails = promoted.plan.guardrails
        if guardrails is not None and promoted.adapter not in busy and _is_due(promoted, now):
            _watch(registry, promoted, guardrails)
    return bool(snapshot.rollouts)


def _make_room(registry: Registry, knobs: GatewaySettings) -> None:
    rules = GiveWayRules(least_run_s=knobs.give_way_after_s, least_left_s=knobs.give_way_left_s)
    for job_id, waiting in registry.jobs.ask_to_give_way(rules).items():
        log.info("job asked to give way", extra={"job": job_id, "to": waiting})


def begin_if_loaded(registry: Registry, rollout: Rollout) -> Rollout:
    """Begin a pending rollout now if its canary is loaded everywhere, and return the rollout as it is then."""
    if rollout.state is not RolloutState.PENDING:
        return rollout
    try:
        return _begin(registry, registry.snapshot(), rollout)
    except StaleState:
        return registry.rollouts.get(rollout.id)


def promote(registry: Registry, rollout_id: str, actor: str, *, full: bool, step: int | None = None) -> Rollout:
    """Advance a rollout by hand to the next step, or with *full* make the canary stable.

    *step* is the index of the step that the caller saw; of two who saw the same one only the first moves it. Raises
    `StillLoading` while a replica lacks the canary, `GateUndecided`, `IllegalMove` if it has ended, `StaleState`.
    """
    rollout = begin_if_loaded(registry, registry.rollouts.get(rollout_id))
    move = registry.rollouts.move
    rollout.check_open()
    if step is not None and step != rollout.step:
        raise StaleState(f"rollout {rollout_id} was moved meanwhile: it is {rollout.state} at step {rollout.step}")
    if rollout.state is RolloutState.PENDING:
        _check_loaded(registry, rollout)
        raise GateUndecided(
            f"the gate of {rollout.adapter}@{rollout.canary} is not decided: "
            f"{progress_text(registry.evaluations.of_rollout(rollout.id))}. Await it, or skip it with skip_gate and a "
            "reason, which the audit log keeps"
        )
    if full or _is_last(rollout):
        return move(rollout.id, rollout.state, RolloutState.PROMOTED, reason="requested", actor=actor)
    # A paused rollout goes on by the same move, so that nothing comes between.
    return registry.rollouts.advance(rollout.id, rollout.step, rollout.state, reason="requested", actor=actor)


def _check_loaded(registry: Registry, rollout: Rollout) -> None:
    readiness = _readiness(registry.snapshot(), rollout)
    if rollout.plan.gate is None or readiness.failures or not readiness.is_everywhere:
        raise StillLoading(f"{rollout.adapter}@{rollout.canary} is not on every replica yet; try again in a moment")


def skip_gate(registry: Registry, rollout_id: str, actor: str, why: str, *, full: bool = False) -> Rollout:
    """Begin the first step, or with *full* promote, without a decision of the gate; *why* is recorded.

    Raises `StillLoading` while a replica lacks the canary, `IllegalMove` where no gate is undecided, `StaleState`.
    """
    rollout = registry.rollouts.get(rollout_id)
    rollout.check_open()
    if rollout.plan.gate is None or rollout.state is not RolloutState.PENDING:
        what = "has no gate" if rollout.plan.gate is None else f"is {rollout.state}: its gate is behind it"
        raise IllegalMove(f"rollout {rollout.id} {what}; leave skip_gate out")
    _check_loaded(registry, rollout)
    is_whole = full or _begins_whole(registry, rollout)
    to = RolloutState.PROMOTED if is_whole else RolloutState.PROGRESSING
    message = f"the gate was skipped: {why}"
    return registry.rollouts.move(rollout.id, rollout.state, to, reason="gate_skipped", message=message, actor=actor)


def _give_first_stables(registry: Registry, snapshot: Snapshot) -> None:
    young = {adapter.name for adapter in snapshot.adapters if adapter.stable is None}
    firsts = first_numbers(revision for revision in snapshot.revisions if revision.adapter in young)
    for adapter in snapshot.adapters:
        first = firsts.get(adapter.name)
        if first is None:
            continue
        # A first revision with a gate is stable only once that lets it through.
        is_loaded = readiness_of(snapshot, adapter.base, f"{adapter.name}@{first}").is_everywhere
        if is_loaded and not registry.rollouts.has_gated(adapter.name):
            registry.adapters.set_first_stable(adapter.name, first, reason="first_revision")


def _readiness(snapshot: Snapshot, rollout: Rollout) -> Readiness:
    base = next(adapter.base for adapter in snapshot.adapters if adapter.name == rollout.adapter)
    return readiness_of(snapshot, base, f"{rollout.adapter}@{rollout.canary}")


def _step(registry: Registry, snapshot: Snapshot, rollout: Rollout, now: float) -> None:
    if rollout.state is RolloutState.PENDING:
        _begin(registry, snapshot, rollout)
        return
    readiness = _readiness(snapshot, rollout)
    # While another replica has the canary, a failed load only holds the step (`_obstacle`); here none has it.
    if rollout.state is RolloutState.PROGRESSING and readiness.failures and not readiness.holders:
        _abort_unloadable(registry, rollout, readiness)
    elif rollout.plan.guardrails is None:
        if rollout.state is RolloutState.PROGRESSING and not _obstacle(rollout, readiness, now):
            _advance(registry, rollout, "step_time_over")
    elif _is_due(rollout, now):
        _follow_verdict(registry, rollout, rollout.plan.guardrails, _obstacle(rollout, readiness, now), now)


def _begin(registry: Registry, snapshot: Snapshot, rollout: Rollout) -> Rollout:
    """Begin the first step if every ready replica has the canary; abort if one cannot load it."""
    readiness = _readiness(snapshot, rollout)
    if readiness.failures:
        return _abort_unloadable(registry, rollout, readiness)
    if not readiness.is_everywhere:
        return rollout
    to = RolloutState.PROMOTED if _begins_whole(registry, rollout) else RolloutState.PROGRESSING
    if rollout.plan.gate is not None:
        return _follow_gate(registry, rollout, rollout.plan.gate, to)
    return registry.rollouts.move(
        rollout.id, rollout.state, to, reason="loaded", message="on every replica that it belongs on"
    )


def _begins_whole(registry: Registry, rollout: Rollout) -> bool:
    """Return whether the canary gets all traffic at once: by its plan, or because a gate kept everything else out."""
    if rollout.plan.steps[0].weight == 100:
        return True
    return registry.adapters.get(rollout.adapter).stable is None and registry.rollouts.has_gated(rollout.adapter)


def _follow_gate(registry: Registry, rollout: Rollout, gate: GatePlan, to: RolloutState) -> Rollout:
    """Begin the first step if the gate lets the canary through; abort if it does not."""
    decision = decide_gate(registry, rollout, gate)
    if decision is None:
        return rollout
    if not decision.has_passed:
        to = RolloutState.ABORTED
    evidence = decision.verdict(rollout.step)
    return registry.rollouts.move(
        rollout.id, rollout.state, to, reason=decision.reason, message=decision.message, evidence=evidence
    )


def _abort_unloadable(registry: Registry, rollout: Rollout, readiness: Readiness) -> Rollout:
    message = "; ".join(readiness.failures)
    return registry.rollouts.move(
        rollout.id, rollout.state, RolloutState.ABORTED, reason=readiness.failure, message=message
    )


def _obstacle(rollout: Rollout, readiness: Readiness, now: float) -> tuple[str, str] | None:
    """Return why the step must not end yet whatever the verdict, as one word and a sentence; None if it may."""
    every_s = rollout.plan.every_s
    if rollout.state is RolloutState.PAUSED:
        return "paused", "a person paused it, and a person decides"
    if not readiness.holders and not readiness.is_asleep:
        return "no_canary_replica", "no ready replica has the canary"
    if readiness.failures:
        return "canary_not_everywhere", "; ".join(readiness.failures)
    if every_s is None:
        return None if rollout.plan.guardrails else ("by_hand", "a person advances the steps")
    if now - rollout.step_since < every_s:
        return "step_time", f"each step holds {every_s:g} s"
    return None


def _is_due(rollout: Rollout, now: float) -> bool:
    # A time in the future, after a clock was set back, must not keep the rollout from being judged.
    return rollout.judged_at is None or not 0 <= now - rollout.judged_at < JUDGE_EVERY_S


def _follow_verdict(
    registry: Registry, rollout: Rollout, guardrails: GuardrailPlan, obstacle: tuple[str, str] | None, now: float
) -> None:
    """Judge the rollout, then abort it, advance it, or store the evidence; a paused one is judged but not moved."""
    cells = comparable(registry.tallies.of_rollout(rollout.id))
    verdict = judge(guardrails, cells, rollout.step)
    earlier = rollout.evidence if rollout.evidence and rollout.evidence["step"] == rollout.step else {}
    traffic = traffic_of(earlier.get("traffic"), cells, rollout.step, guardrails.min_samples, now)
    evidence = {**verdict.as_json(), "step": rollout.step, **unjudged_of(cells), "traffic": traffic}
    if verdict.decision is Decision.ABORT and rollout.state is RolloutState.PROGRESSING:
        reason, message, to = verdict.reason, verdict.message, RolloutState.ABORTED
        registry.rollouts.move(rollout.id, rollout.state, to, reason=reason, message=message, evidence=evidence)
    elif verdict.decision is Decision.ADVANCE and obstacle is None:
        _advance(registry, rollout, verdict.reason, verdict.message, evidence)
    else:
        if verdict.decision is Decision.ADVANCE and obstacle is not None:
            evidence |= {"decision": str(Decision.HOLD), "reason": obstacle[0], "message": obstacle[1]}
        registry.rollouts.record_verdict(rollout, evidence)


def _advance(
    registry: Registry, rollout: Rollout, reason: str, message: str = "", evidence: Mapping[str, Any] | None = None
) -> None:
    """Move to the next step; if its weight is 100, the canary becomes stable."""
    store = registry.rollouts
    if _is_last(rollout):
        to = RolloutState.PROMOTED
        store.move(rollout.id, rollout.state, to, reason=reason, message=message, evidence=evidence)
    else:
        actor = "controller"
        store.advance(rollout.id, rollout.step, reason=reason, actor=actor, message=message, evidence=evidence)


def _is_last(rollout: Rollout) -> bool:
    """Return whether the canary becomes stable at the end of the current step."""
    following = rollout.plan.steps[rollout.step + 1 :]
    return not following or following[0].weight == 100


def _watch(registry: Registry, promoted: Rollout, guardrails: GuardrailPlan) -> None:
    """Judge a promotion by the requests after it, and roll back at most once if the new stable is worse."""
    cells = comparable(registry.tallies.of_rollout(promoted.id))
    steps = len(promoted.plan.steps)
    verdict = judge_watch(guardrails, cells, steps)
    evidence = {**verdict.as_json(), "step": steps, **unjudged_of(cells)}
    # the verdict is stored by compare-and-set first, so that of two controllers only one goes on to roll back
    if not registry.rollouts.record_verdict(promoted, evidence) or verdict.decision is not Decision.ABORT:
        return
    facts = {"rollout_id": promoted.id, "reason": verdict.reason}
    try:
        reason = f"watch_{verdict.reason}"
        back = registry.rollouts.take_back(promoted, reason=reason, message=verdict.message, evidence=evidence)
    except (StaleState, RolloutOpen):
        log.info("promotion was taken back by another process", extra=facts)
    except NotServable as exc:
        log.warning("promotion cannot be taken back", extra=facts | {"error": str(exc)})
    else:
        begin_if_loaded(registry, back)
