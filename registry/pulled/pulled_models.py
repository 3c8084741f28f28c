"""Pulled models in the registry: entered once for each commit, found by their id, removed while nothing uses them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from uuid import uuid4

import sqlalchemy as sa

from registry import tables
from registry.audit import Act, write_audit
from registry.bases import find_base, is_artifact
from registry.database import Registry
from registry.errors import Conflict, NotFound
from registry.jobs.base_uses import users_of_base
from registry.pulled.pulled_model import PulledModel, pulled_model
from registry.types import Base
from registry.wording.suggestions import meant_or_known

_SHORT: int = 7


def enter_pulled(registry: Registry, made: Base, model: PulledModel) -> Base:
    """Store *made*, whose name is chosen here, and return it; one that is there already gets the folder of *made*.

    `Conflict` if this commit is there with other bytes.
    """
    with registry.transactions.write() as tx:
        there = {base.name: pulled for base, pulled in _all_pulled(tx)}
        for name, pulled in there.items():
            if (pulled.hub, pulled.id, pulled.commit) == (model.hub, model.id, model.commit):
                _check_same(find_base(tx, name), made)
                tx.execute(sa.update(tables.bases).where(tables.bases.c.name == name).values(path=made.path))
                return find_base(tx, name)
        taken = set(tx.execute(sa.select(tables.bases.c.name)).scalars())
        base = replace(made, name=next(name for name in _names(model) if name not in taken))
        tx.execute(sa.insert(tables.bases).values(asdict(base)))
        detail = {"hub": model.hub, "id": model.id, "commit": model.commit, "digest": base.digest}
        act = Act(actor=model.pulled_by, action="base.pull", subject=base.name, detail=detail)
        write_audit(tx, act, registry.transactions.now())
        return find_base(tx, base.name)


def store_pulled(registry: Registry, folder: Path) -> str:
    """Return the place of a pulled model's *folder*: where artifacts are in a bucket, the model is moved there."""
    if registry.artifacts.cache is None:
        return str(folder)
    with registry.artifacts.publishing() as staging:
        digest = staging.put_folder(folder)
        with staging.committing() as install, registry.transactions.write() as tx:
            install(tx)
    shutil.rmtree(folder)
    return registry.artifacts.location(digest)


def is_here(registry: Registry, base: Base) -> bool:
    """Return whether the weights of *base* are on this machine, or in the bucket of the artifacts."""
    return Path(base.path).is_dir() or (is_artifact(base) and registry.artifacts.has_folder(base.digest))


def _check_same(there: Base, made: Base) -> None:
    if there.digest != made.digest:
        raise Conflict(
            f"{there.name!r} is in the registry with digest {there.digest[:12]}, and what was pulled of the same "
            f"commit has {made.digest[:12]}: lorry models verify {there.name}"
        )


def _names(model: PulledModel) -> Iterator[str]:
    """Yield the id, then the id with more and more of its commit."""
    yield model.id
    yield from (f"{model.id}@{model.commit[:length]}" for length in range(_SHORT, len(model.commit) + 1))


def all_pulled(registry: Registry) -> list[tuple[Base, PulledModel]]:
    """Return every model that was pulled, with its record, ordered by name."""
    with registry.transactions.read() as tx:
        return _all_pulled(tx)


def _all_pulled(tx: sa.Connection) -> list[tuple[Base, PulledModel]]:
    rows = tx.execute(sa.select(tables.bases).order_by(tables.bases.c.name)).mappings()
    bases = [Base(**row) for row in rows if row["parent"] is None]
    found = ((base, pulled_model(base.provenance)) for base in bases)
    return [(base, pulled) for base, pulled in found if pulled is not None]


def find_pulled(registry: Registry, asked: str, hub: str | None = None) -> Base | None:
    """Return the model that was pulled under the id *asked*, which may end in `@COMMIT` or a beginning of it.

    None if there is none. `Conflict` where several with different bytes fit, which lists them.
    """
    name, _, revision = asked.partition("@")
    same = [
        (base, pulled)
        for base, pulled in all_pulled(registry)
        if pulled.id == name and hub in (None, pulled.hub) and fits(pulled, revision)
    ]
    if exact := [base for base, _ in same if "@" in asked and base.name == asked]:
        return exact[0]
    if len({base.digest for base, _ in same}) > 1:
        listed = ", ".join(f"{pulled.pinned} ({pulled.hub}, digest {base.digest[:12]})" for base, pulled in same)
        raise Conflict(f"{asked!r} was pulled {len(same)} times with different commits; name one of them: {listed}")
    return same[0][0] if same else None


def fits(pulled: PulledModel, revision: str) -> bool:
    """Return whether *revision* (a commit, its beginning, or the branch that was asked for) names this model."""
    return (
        not revision or revision == pulled.asked_revision or (len(revision) >= 7 and pulled.commit.startswith(revision))
    )


def named_pulled(registry: Registry, name: str) -> tuple[Base, PulledModel]:
    """Return the pulled model of this name, or of this id. `NotFound` lists those that there are."""
    there = all_pulled(registry)
    for base, pulled in there:
        if base.name == name:
            return base, pulled
    found = find_pulled(registry, name)
    if found is None:
        raise NotFound(f"no model {name!r} was pulled{meant_or_known(name, [each.name for each, _ in there])}")
    return next(each for each in there if each[0].name == found.name)


def remove_pulled(registry: Registry, name: str, actor: str, users: Sequence[str] = ()) -> Base:
    """Remove a pulled model and its folder, and return it as it was. *users* are further things that need it.

    `NotFound`; `Conflict` while anything uses it.
    """
    there = registry.bases.get(name)
    # An artifact is removed with its row; a folder of the puller's machine after it.
    removing = registry.artifacts.discarding(there.digest) if is_artifact(there) else nullcontext()
    with removing, registry.transactions.write() as tx:
        base = find_base(tx, name)
        pulled = pulled_model(base.provenance)
        if pulled is None:
            raise Conflict(f"base model {name!r} was not pulled from a hub")
        if in_use := [*users, *users_of_base(tx, name)]:
            raise Conflict(f"model {name!r} is in use by {', '.join(in_use[:5])}")
        tx.execute(sa.delete(tables.bases).where(tables.bases.c.name == name))
        detail = {"hub": pulled.hub, "id": pulled.id, "commit": pulled.commit, "digest": base.digest}
        act = Act(actor=actor, action="base.remove", subject=name, detail=detail)
        write_audit(tx, act, registry.transactions.now())
    _remove_folder(Path(base.path))
    return base


def _remove_folder(folder: Path) -> None:
    """Remove the folder, renamed first, so that a later pull finds all of it or nothing."""
    if folder.is_dir():
        trash = folder.with_name(f".{folder.name}-{uuid4().hex[:8]}")
        folder.rename(trash)
        shutil.rmtree(trash, ignore_errors=True)
