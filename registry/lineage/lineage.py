"""The lineage of whatever has a name or an id."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from registry.database import Registry
from registry.errors import NotFound
from registry.lineage.descendants import made_by_job, made_of_base, made_of_file, made_of_revision, revisions_of
from registry.lineage.node import Lineage, LineageNode, NodeKind
from registry.lineage.origins import base_by_name, base_node, revision_node
from registry.lineage.record import acts_about, file_node, job_node, removal_of, step_node, with_relation
from registry.pulled.pulled_models import find_pulled
from registry.types import File
from registry.wording.suggestions import meant_or_known

_SHA256: Final = re.compile(r"[0-9a-f]{64}")


def lineage_of(registry: Registry, name: str) -> Lineage:
    """Return the lineage of a revision, an adapter, a base model, a checkpoint, a step, a job or a file.

    A file is named by its id or its sha256. `NotFound` has the name that was meant.
    """
    for find in _FINDERS:
        with suppress(NotFound):
            if (found := find(registry, name)) is not None:
                return found
    known = [*(base.name for base in registry.bases.list()), *(adapter.name for adapter in registry.adapters.list())]
    raise NotFound(f"there is no model, job or file {name!r}{meant_or_known(name, known)}")


def _base(registry: Registry, name: str) -> Lineage | None:
    base = find_pulled(registry, name) if "/" in name else None
    base = base or registry.bases.get(name)
    return Lineage(node=base_node(registry, base), became=tuple(made_of_base(registry, base.name, base.digest)))


def _revision(registry: Registry, name: str) -> Lineage | None:
    revision = registry.adapters.named(name)
    return Lineage(
        node=revision_node(registry, revision), became=tuple(made_of_revision(registry, revision.served_name))
    )


def _adapter(registry: Registry, name: str) -> Lineage | None:
    adapter = registry.adapters.get(name)
    node = LineageNode(
        kind=NodeKind.ADAPTER,
        name=name,
        relation="",
        at=adapter.created_at,
        facts={"kind": adapter.kind, "stable": adapter.stable and f"{name}@{adapter.stable}"},
        parts=(base_by_name(registry, adapter.base, None), *acts_about(registry, [name])),
    )
    return Lineage(node=node, became=tuple(revisions_of(registry, name)))


def _step(registry: Registry, name: str) -> Lineage | None:
    step = registry.checkpoints.find(name)
    if step is None:
        return None
    node = with_relation(step_node(step), "")
    job = job_node(registry, step.job_id, {})
    parts = (*((job,) if job else ()), base_by_name(registry, step.base, step.base_digest))
    whole = LineageNode(
        kind=node.kind,
        name=node.name,
        relation="",
        state=node.state,
        digest=node.digest,
        at=node.at,
        by=node.by,
        facts=node.facts,
        parts=(*parts, *acts_about(registry, [node.name])),
    )
    return Lineage(node=whole, became=())


def _job(registry: Registry, name: str) -> Lineage | None:
    job = registry.jobs.get(name)
    made = tuple(made_by_job(registry, name))
    node = job_node(registry, name, job.spec.model_dump(mode="json", include={"seed"}))
    if node is None:
        return None
    base = base_by_name(registry, job.spec.base, job.spec.base_digest)
    facts = {**node.facts, "spec": job.spec.model_dump(mode="json", exclude={"base", "base_digest"})}
    top = LineageNode(
        kind=node.kind,
        name=node.name,
        relation="",
        state=node.state,
        at=node.at,
        by=node.by,
        facts=facts,
        parts=(base, *node.parts),
    )
    return Lineage(node=top, became=made)


def _file(registry: Registry, name: str) -> Lineage | None:
    if _SHA256.fullmatch(name):
        file = registry.files.with_bytes(name, "")
        became = tuple(made_of_file(registry, name))
        if file is None and not became:
            return None
        known = {"sha256": name} if file is None else _known(file)
        return Lineage(node=file_node(registry, "", known), became=became)
    if not name.startswith("file-"):
        return None
    file = registry.files.held(name)
    return Lineage(node=file_node(registry, "", _known(file)), became=tuple(made_of_file(registry, file.digest)))


def _known(file: File) -> dict[str, object]:
    return {"id": file.id, "filename": file.filename, "sha256": file.digest, "size_bytes": file.size_bytes}


def _removed(registry: Registry, name: str) -> Lineage | None:
    if removal_of(registry, name) is None:
        return None
    node = base_by_name(registry, name, None, "")
    return Lineage(node=node, became=tuple(made_of_base(registry, name, node.digest)))


_FINDERS: Final[Sequence[Callable[[Registry, str], Lineage | None]]] = (
    _base, _revision, _adapter, _step, _job, _file, _removed
)  # fmt: skip
"""Each returns the lineage of a name of its kind, or None, or raises `NotFound`."""
