"""A model as it is exported: its folder, and what made it, without anything that names people or places."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.errors import InvalidRequest
from gateway.keys.access import own_name, own_unless_base, whole_model
from gateway.keys.caller import Caller
from gateway.objects.weights.exports import ExportedOrigin, ExportedScore
from registry.database import Registry
from registry.errors import NotFound
from registry.states import AdapterKind
from registry.types import Base, Revision

SHOWN: Final = (
    "source",
    "hyperparameters",
    "seed",
    "versions",
    "metrics",
    "trained_tokens",
    "compared",
    "merge",
    "quantization",
    "scheme",
    "hub",
    "id",
    "commit",
)
"""Fields of a provenance that do not reveal who made the thing, and where."""
DATA: Final = ("dataset", "validation", "calibration")
"""Fields that describe a file: a card has its digest and size, and not its name."""
_OF_A_FILE: Final = ("sha256", "size_bytes")
_DEEPEST: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportSource:
    """A model in the registry, and the folder with its files."""

    name: str
    kind: str
    digest: str
    folder: Path
    base: str | None
    lineage: tuple[ExportedOrigin, ...]


def export_source(registry: Registry, caller: Caller, name: str) -> ExportSource:
    """Return the caller's model of this name: a revision, a checkpoint, or a base model, which every key may use.

    Raises `NotFound`, `ModelNotAllowed`, or `InvalidRequest` for what makes no sense outside of Lorry.
    """
    base = _base_named(registry, caller, name)
    if base is not None:
        return ExportSource(
            name=base.name,
            kind="checkpoint" if base.is_checkpoint else "base",
            digest=base.digest,
            folder=Path(registry.at_hand(base).path),
            base=base.parent,
            lineage=tuple(_of_base(registry, base)),
        )
    revision = own_unless_base(registry, caller, name)
    if registry.adapters.get(revision.adapter).kind is not AdapterKind.CHAT:
        raise InvalidRequest(
            f"{name} is a reward model: its score head is in a form of Lorry's own, which no other tool reads",
            param="name",
        )
    return ExportSource(
        name=revision.served_name,
        kind="adapter",
        digest=revision.artifact,
        folder=registry.artifacts.folder(revision.artifact),
        base=revision.base,
        lineage=tuple(_of_revision(registry, revision)),
    )


def _base_named(registry: Registry, caller: Caller, name: str) -> Base | None:
    whole = whole_model(registry, name)
    if whole is not None:
        return registry.bases.get(own_name(registry, caller, name))
    try:
        return registry.bases.get(name)
    except NotFound:
        return None


def _of_revision(registry: Registry, revision: Revision) -> Iterator[ExportedOrigin]:
    yield ExportedOrigin(
        name=revision.served_name,
        kind="adapter",
        digest=revision.artifact,
        licence=None,
        made_by=shown_of(revision.provenance),
        scores=_scores(registry, revision.served_name, revision.artifact),
    )
    yield from _of_base(registry, registry.bases.get(revision.base))


def _of_base(registry: Registry, base: Base | None) -> Iterator[ExportedOrigin]:
    for _ in range(_DEEPEST):
        if base is None:
            return
        yield ExportedOrigin(
            name=base.name,
            kind="checkpoint" if base.is_checkpoint else "base",
            digest=base.digest,
            licence=base.licence,
            made_by=shown_of(base.provenance),
            scores=_scores(registry, base.name, base.digest),
        )
        merged = base.provenance.get("adapter")
        if isinstance(merged, Mapping) and (adapter := _revision(registry, str(merged.get("name")))) is not None:
            yield next(_of_revision(registry, adapter))
        base = None if base.parent is None else _parent(registry, base.parent)


def _revision(registry: Registry, name: str) -> Revision | None:
    try:
        return registry.adapters.named(name)
    except NotFound:
        return None


def _parent(registry: Registry, name: str) -> Base | None:
    try:
        return registry.bases.get(name)
    except NotFound:  # a checkpoint that was deleted since
        return None


def _scores(registry: Registry, name: str, digest: str) -> list[ExportedScore]:
    """Return the newest score of each suite that these weights were evaluated with."""
    found: dict[str, ExportedScore] = {}
    for each in registry.evaluations.of_model(name, digest):
        overall = (each.scores or {}).get("overall")
        if overall is not None and each.suite_name not in found:
            found[each.suite_name] = ExportedScore(
                suite=each.suite_name,
                tool=each.tool,
                rows=overall["rows"],
                score=overall["score"],
                low=overall.get("low"),
                high=overall.get("high"),
            )
    return list(found.values())


def shown_of(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts of *provenance* that a model card may have."""
    found = {field: provenance[field] for field in SHOWN if provenance.get(field) not in (None, {}, [])}
    for field in DATA:
        file = provenance.get(field)
        if isinstance(file, Mapping):
            found[field] = {fact: file[fact] for fact in _OF_A_FILE if fact in file}
    return found
