"""The single things of a lineage as nodes: files, reviews, jobs, rollouts, acts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any, Final

from registry.database import Registry
from registry.errors import NotFound
from registry.files.report_store import Review
from registry.jobs.job import Job
from registry.lineage.node import LineageNode, NodeKind, NodeState
from registry.rollouts.rollout import Rollout
from registry.types import AuditEntry, ServedCheckpoint

REMOVALS: Final = frozenset({"checkpoint.delete", "base.remove"})
"""Actions by which a whole model goes."""
_FILE_FACTS: Final = ("size_bytes", "samples", "max_length", "findings", "unfit_rows")
_MOST_ACTS: Final = 200


def file_node(registry: Registry, relation: str, known: Mapping[str, Any]) -> LineageNode:
    """Return a data file that a result remembers as *known*, with its sign-offs; deleted if no file has its bytes."""
    digest = str(known.get("sha256", ""))
    file = registry.files.with_bytes(digest, str(known.get("id", "")))
    reviews = {review.id: review_node(review) for review in registry.reports.reviews(digest)}
    remembered = known.get("review")
    if isinstance(remembered, dict) and remembered.get("id") not in reviews:
        reviews[str(remembered.get("id"))] = _remembered_review(remembered)
    return LineageNode(
        kind=NodeKind.FILE,
        name=str(known.get("filename") or (file and file.filename) or digest[:12]),
        relation=relation,
        state=NodeState.DELETED if file is None else NodeState.PRESENT,
        digest=digest,
        at=None if file is None else file.created_at,
        by=None if file is None else file.owner,
        facts={
            "file": str(known["id"]) if known.get("id") else file and file.id,
            **{name: known[name] for name in _FILE_FACTS if known.get(name)},
        },
        parts=tuple(reviews.values()),
    )


def review_node(review: Review) -> LineageNode:
    """Return a person's sign-off."""
    bad = sum(verdict["verdict"] == "bad" for verdict in review.verdicts)
    facts = {"rows": len(review.verdicts), "bad": bad, "seed": review.seed}
    return LineageNode(
        kind=NodeKind.REVIEW, name=review.id, relation="signed off", at=review.at, by=review.reviewer, facts=facts
    )


def _remembered_review(known: Mapping[str, Any]) -> LineageNode:
    return LineageNode(
        kind=NodeKind.REVIEW,
        name=str(known.get("id")),
        relation="signed off",
        state=NodeState.DELETED,
        at=known.get("signed_at"),
        by=known.get("reviewer"),
        facts={name: known.get(name) for name in ("rows", "bad", "seed")},
    )


def job_node(registry: Registry, job_id: str | None, made: Mapping[str, Any]) -> LineageNode | None:
    """Return the job *job_id*, with what its result remembers in *made* of the work; None for a result of no job."""
    if job_id is None:
        return None
    job: Job | None = None
    with suppress(NotFound):
        job = registry.jobs.get(job_id)
    facts = {
        "method": None if job is None else job.spec.method,
        "state": None if job is None else job.state,
        "error": None if job is None or job.error is None else asdict(job.error),
        **{name: made[name] for name in ("source", "scheme", "hyperparameters", "seed") if name in made},
        **{
            name: made[name]
            for name in ("versions", "machine", "metrics", "trained_tokens", "attempts")
            if name in made
        },
    }
    steps = tuple(step_node(step) for step in registry.checkpoints.of_job(job_id))
    return LineageNode(
        kind=NodeKind.JOB,
        name=job_id,
        relation="made by",
        state=NodeState.DELETED if job is None else NodeState.PRESENT,
        at=made.get("times", {}).get("created_at") if job is None else job.created_at,
        by=made.get("owner") if job is None else job.owner,
        facts={name: fact for name, fact in facts.items() if fact is not None}
        | ({} if job is None else {"started_at": job.started_at, "finished_at": job.finished_at}),
        parts=(*_job_files(registry, job, made), *steps, *acts_about(registry, [job_id])),
    )


def _job_files(registry: Registry, job: Job | None, made: Mapping[str, Any]) -> Iterable[LineageNode]:
    """Yield the data of the job: as its result remembers it, else by the ids in its spec."""
    named = {"dataset": "trained on", "validation": "validated on", "calibration": "calibrated on"}
    remembered = [(relation, made[name]) for name, relation in named.items() if isinstance(made.get(name), dict)]
    for relation, known in remembered:
        yield file_node(registry, relation, known)
    if job is None or remembered:
        return
    for field, file_id in job.spec.files().items():
        yield _file_by_id(registry, field.removesuffix("_file"), file_id)


def _file_by_id(registry: Registry, field: str, file_id: str) -> LineageNode:
    relation = {"training": "trained on", "validation": "validated on", "calibration": "calibrated on"}.get(
        field, field
    )
    try:
        file = registry.files.held(file_id)
    except NotFound:
        return LineageNode(kind=NodeKind.FILE, name=file_id, relation=relation, state=NodeState.DELETED)
    known = {"id": file.id, "filename": file.filename, "sha256": file.digest, "size_bytes": file.size_bytes}
    return file_node(registry, relation, known)


def step_node(step: ServedCheckpoint) -> LineageNode:
    """Return a step that a job published."""
    return LineageNode(
        kind=NodeKind.STEP,
        name=step.alias or step.served_name,
        relation="checkpoint",
        state=NodeState(str(step.state)) if step.state != "ready" else NodeState.PRESENT,
        digest=step.artifact,
        at=step.created_at,
        by=step.owner,
        facts={"step": step.step, "is_result": step.is_result, "expires_at": step.expires_at},
    )


def rollout_node(registry: Registry, rollout: Rollout) -> LineageNode:
    """Return a rollout with its moves and who made them."""
    moves = tuple(
        LineageNode(
            kind=NodeKind.ACT,
            name=str(event.state),
            relation="move",
            at=event.at,
            by=event.actor,
            facts={"step": event.step, "reason": event.reason, "message": event.message},
        )
        for event in registry.rollouts.events(rollout.id)
    )
    facts = {
        "outcome": rollout.state,
        "reason": rollout.reason,
        "message": rollout.message,
        "steps": [step.weight for step in rollout.plan.steps],
        "stable": rollout.stable and f"{rollout.adapter}@{rollout.stable}",
        "finished_at": rollout.finished_at,
        "gate": rollout.gate_result,
    }
    return LineageNode(
        kind=NodeKind.ROLLOUT,
        name=rollout.id,
        relation="rollout",
        at=rollout.created_at,
        by=rollout.actor,
        facts=facts,
        parts=moves,
    )


def evaluation_nodes(registry: Registry, served_name: str, digest: str) -> Iterator[LineageNode]:
    """Yield the completed evaluations of exactly these weights, newest first."""
    for each in registry.evaluations.of_model(served_name, digest):
        facts = {
            "tool": each.tool,
            "suite": each.suite_name,
            "suite_sha256": each.suite_digest,
            "rows": each.total,
            "judges": {name: f"{judge.served_name} sha256 {judge.digest}" for name, judge in each.judges.items()},
            "rollout": each.rollout_id,
            "scores": each.scores and each.scores.get("overall"),
        }
        yield LineageNode(
            kind=NodeKind.EVALUATION,
            name=each.id,
            relation="scored by",
            at=each.finished_at or each.created_at,
            by=each.owner,
            facts={name: fact for name, fact in facts.items() if fact},
        )


def acts_about(registry: Registry, subjects: Iterable[str | None]) -> tuple[LineageNode, ...]:
    """Return what was done to things of these names, oldest first; moves of rollouts are with the rollouts."""
    entries = registry.audit.about([each for each in subjects if each], _MOST_ACTS)
    return tuple(_act_node(entry) for entry in entries if not entry.action.startswith("rollout."))


def _act_node(entry: AuditEntry) -> LineageNode:
    return LineageNode(
        kind=NodeKind.ACT,
        name=entry.action,
        relation="done",
        at=entry.at,
        by=entry.actor,
        facts={"subject": entry.subject, **entry.detail},
    )


def removal_of(registry: Registry, name: str) -> AuditEntry | None:
    """Return the act by which the whole model *name* went last; None if it never did."""
    found = [entry for entry in registry.audit.about([name], _MOST_ACTS) if entry.action in REMOVALS]
    return found[-1] if found else None


def with_relation(node: LineageNode, relation: str) -> LineageNode:
    """Return *node* as *relation* of another."""
    return replace(node, relation=relation)
