"""The origins of models: revisions, checkpoints and base models with everything above them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from registry.database import Registry
from registry.errors import NotFound
from registry.lineage.node import LineageNode, NodeKind, NodeState
from registry.lineage.record import acts_about, evaluation_nodes, file_node, job_node, removal_of, rollout_node
from registry.pulled.pulled_model import PulledModel, pulled_model
from registry.states import RevisionState
from registry.types import LOAD_TESTS, Base, Revision

_MOST_ROLLOUTS = 1000


def revision_node(registry: Registry, revision: Revision, relation: str = "") -> LineageNode:
    """Return the revision with its job, its base model, scores, rollouts and acts."""
    made, name = revision.provenance, revision.served_name
    job = job_node(registry, revision.job_id, made)
    rollouts = [
        each for each in registry.rollouts.list(revision.adapter, _MOST_ROLLOUTS) if each.canary == revision.number
    ]
    facts = {"also_named": revision.alias, "rank": revision.rank, "target_modules": list(revision.target_modules)}
    if "source" in made:
        facts |= {"source": made["source"], "upload": made.get("upload")}
    return LineageNode(
        kind=NodeKind.REVISION,
        name=name,
        relation=relation,
        state=NodeState.RETIRED if revision.state is RevisionState.RETIRED else NodeState.PRESENT,
        digest=revision.artifact,
        at=revision.created_at,
        by=revision.owner,
        facts={name: fact for name, fact in facts.items() if fact is not None},
        parts=(
            *((job,) if job else ()),
            base_by_name(registry, revision.base, revision.base_digest),
            *evaluation_nodes(registry, name, revision.artifact),
            *(rollout_node(registry, each) for each in sorted(rollouts, key=lambda each: each.created_at)),
            *acts_about(registry, [name, revision.alias]),
        ),
    )


def base_by_name(registry: Registry, name: str, digest: str | None, relation: str = "base") -> LineageNode:
    """Return the base model of this name and digest with all that it came from; deleted where it is not there now."""
    with suppress(NotFound):
        base = registry.bases.get(name)
        if digest in (None, base.digest):
            return base_node(registry, base, relation)
    removed = removal_of(registry, name)
    known = {} if removed is None else dict(removed.detail)
    facts = {key: known[key] for key in ("hub", "id", "commit", "parent", "licence") if known.get(key)}
    return LineageNode(
        kind=NodeKind.CHECKPOINT if known.get("parent") else NodeKind.BASE,
        name=name,
        relation=relation,
        state=NodeState.DELETED,
        digest=digest or known.get("digest") or known.get("artifact"),
        facts=facts,
        parts=acts_about(registry, [name]),
    )


def base_node(registry: Registry, base: Base, relation: str = "") -> LineageNode:
    """Return the whole model with its hub, or with the job, base model, adapter and data that made it."""
    made, pulled = base.provenance, pulled_model(base.provenance)
    job = job_node(registry, base.job_id, made)
    facts: dict[str, Any] = {"licence": base.licence, "path": base.path, "step": base.step, "also_named": base.alias}
    facts |= {name: made[name] for name in ("source", "scheme", "quantization", LOAD_TESTS, "compared") if name in made}
    parts: list[LineageNode] = [] if job is None else [job]
    if pulled is not None:
        parts.append(_repository(base, pulled))
        facts["remote_code"] = pulled.remote_code or None
    parts += _models_of(registry, base, made)
    if job is None and isinstance(calibration := made.get("calibration"), dict):
        parts.append(file_node(registry, "calibrated on", calibration))
    return LineageNode(
        kind=NodeKind.CHECKPOINT if base.is_checkpoint else NodeKind.BASE,
        name=base.name,
        relation=relation,
        digest=base.digest,
        at=base.created_at,
        by=base.owner or (pulled.pulled_by if pulled else None),
        facts={name: fact for name, fact in facts.items() if fact is not None},
        parts=(
            *parts,
            *evaluation_nodes(registry, base.name, base.digest),
            *acts_about(registry, [base.name, base.alias]),
        ),
    )


def _models_of(registry: Registry, base: Base, made: Mapping[str, Any]) -> Iterator[LineageNode]:
    """Yield the model that a checkpoint was made from, and the adapter that was merged into it."""
    if base.parent is None:
        return
    known = made.get("base")
    digest = known.get("digest") if isinstance(known, dict) else made.get("base_digest")
    yield base_by_name(registry, base.parent, digest)
    adapter = made.get("adapter")
    if isinstance(adapter, dict) and adapter.get("name"):
        yield _merged(registry, str(adapter["name"]), adapter.get("artifact"))


def _merged(registry: Registry, name: str, artifact: str | None) -> LineageNode:
    try:
        return revision_node(registry, registry.adapters.named(name), "adapter")
    except NotFound:
        return LineageNode(
            kind=NodeKind.REVISION, name=name, relation="adapter", state=NodeState.DELETED, digest=artifact
        )


def _repository(base: Base, pulled: PulledModel) -> LineageNode:
    files = {path: file.sha256 for path, file in pulled.files.items()}
    facts = {"hub": pulled.hub, "commit": pulled.commit, "asked_revision": pulled.asked_revision}
    facts |= {"licence": base.licence}
    return LineageNode(
        kind=NodeKind.REPOSITORY,
        name=f"{pulled.hub}:{pulled.id}@{pulled.commit}",
        relation="pulled from",
        state=NodeState.ELSEWHERE,
        at=pulled.pulled_at,
        by=pulled.pulled_by,
        facts={**{name: fact for name, fact in facts.items() if fact}, "files": files},
    )
