"""From an id on a hub to a base model in the registry: allowed, pinned, fetched, checked, recorded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from gateway.errors import PullRefused
from gateway.models_settings import HubName, ModelsSettings
from gateway.pools.hub_ids import HUB_ID
from hubs.catalog import HUBS
from hubs.errors import HubError, UnknownRepository
from hubs.fetching import Progress, Work, fetch_files
from hubs.model_files import model_files
from hubs.repository import COMMIT, Content, RemoteFile, Repository, Snapshot
from registry.artifacts import manifest_digest
from registry.database import Registry
from registry.pulled.pulled_model import PulledFile, PulledModel
from registry.pulled.pulled_models import all_pulled, enter_pulled, is_here, store_pulled
from registry.types import Base
from registry.wording.suggestions import did_you_mean

_PARTIAL: Final = ".partial"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class PullOrder:
    """An order to pull a model, with who gives it."""

    id: str
    """`OWNER/NAME`."""
    revision: str | None
    """Branch, tag or commit; None for the default branch."""
    hub: HubName
    actor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """The result of a pull."""

    base: Base
    model: PulledModel
    was_there: bool
    """Whether this commit had been pulled before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PullGround:
    """Where a pull works, and where it shows how far it is."""

    registry: Registry
    settings: ModelsSettings
    folder: Path
    """The folder of all pulled models."""
    show: Callable[[Progress], None]
    say: Say


def pull_order(text: str, revision: str | None, hub: HubName, actor: str) -> PullOrder:
    """Return the order for the id *text*. `PullRefused` for what is none, and for two revisions."""
    found = HUB_ID.fullmatch(text)
    if found is None:
        raise PullRefused(f"{text!r} is not the id of a model on a hub; give OWNER/NAME, as Qwen/Qwen2.5-7B-Instruct")
    if revision is not None and found["revision"] is not None:
        raise PullRefused(f"{text}: names a revision already, so --revision {revision} is one too many")
    return PullOrder(id=found["id"], revision=revision or found["revision"], hub=hub, actor=actor)


def pulled_before(registry: Registry, order: PullOrder) -> Pulled | None:
    """Return what was pulled under this id and revision before; None if the hub has to be asked.

    A branch or a tag has to be asked about, because it may have moved.
    """
    same = [
        (base, model)
        for base, model in all_pulled(registry)
        if (model.hub, model.id) == (order.hub, order.id) and model.commit == order.revision
    ]
    here = [(base, model) for base, model in same if is_here(registry, base)]
    return Pulled(base=here[0][0], model=here[0][1], was_there=True) if here else None


def pull(order: PullOrder, ground: PullGround) -> Pulled:
    """Return the model with all its files here. `PullRefused`, `HubError`, `RegistryError`."""
    _check_organisation(order, ground.settings)
    if order.revision and COMMIT.fullmatch(order.revision) and (there := pulled_before(ground.registry, order)):
        return there
    repository = Repository(content=Content.MODEL, name=order.id)
    snapshot = _snapshot(order, repository)
    _check_licence(order, snapshot, ground.settings)
    files = model_files(order.id, snapshot.files)
    pinned = replace(order, revision=snapshot.commit)
    with _alone(ground, pinned):
        if there := pulled_before(ground.registry, pinned):
            return there
        total = sum(file.size_bytes for file in files) / 1e9
        ground.say(f"{order.id} at commit {snapshot.commit}: {len(files)} files, {total:.2f} GB, of {order.hub}")
        return _fetched(order, ground, snapshot, files)


def _snapshot(order: PullOrder, repository: Repository) -> Snapshot:
    hub = HUBS[order.hub]
    try:
        return hub.snapshot(repository, order.revision)
    except UnknownRepository as exc:
        found = [each for each in hub.similar(order.id) if each != order.id]
        meant = did_you_mean(order.id, found) or (f"; like it there are {', '.join(found[:5])}" if found else "")
        raise UnknownRepository(f"{exc}{meant}") from exc


def _check_organisation(order: PullOrder, settings: ModelsSettings) -> None:
    owner = order.id.partition("/")[0]
    allowed = settings.organisations
    if allowed is not None and owner.lower() not in {each.lower() for each in allowed}:
        listed = ", ".join(allowed) or "none"
        raise PullRefused(f"{order.id}: {owner} is not among settings [models] organisations, which allow: {listed}")


def _check_licence(order: PullOrder, snapshot: Snapshot, settings: ModelsSettings) -> None:
    allowed = settings.licences
    if allowed is not None and snapshot.licence not in {each.lower() for each in allowed}:
        listed = ", ".join(allowed) or "none"
        found = f"its licence is {snapshot.licence}" if snapshot.licence else "the hub names no licence of it"
        raise PullRefused(f"{order.id}: {found}; settings [models] licences allow: {listed}")


@contextmanager
def _alone(ground: PullGround, order: PullOrder) -> Iterator[None]:
    """Hold the lock of this commit; a second pull waits for the first and finds its result."""
    locks = ground.folder / ".locks"
    locks.mkdir(parents=True, exist_ok=True)
    lock = FileLock(locks / f"{order.hub}--{order.id.replace('/', '--')}--{order.revision}")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        ground.say(f"{order.id}: another pull of it is under way; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _fetched(order: PullOrder, ground: PullGround, snapshot: Snapshot, files: list[RemoteFile]) -> Pulled:
    target = ground.folder / order.hub / order.id / snapshot.commit
    partial = ground.folder / _PARTIAL / order.hub / order.id / snapshot.commit
    partial.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir() and not partial.exists():  # its row is gone, or was never written: checked like a partial one
        target.rename(partial)
    partial.mkdir(exist_ok=True)
    work = Work(
        hub=HUBS[order.hub],
        repository=Repository(content=Content.MODEL, name=order.id),
        commit=snapshot.commit,
        files=files,
        folder=partial,
        at_a_time=ground.settings.files_at_a_time,
    )
    digests = fetch_files(work, ground.show)
    _keep_only(partial, set(digests))
    remote_code = _names_code(partial)
    if remote_code:
        ground.say(
            f"{order.id}: its config.json names Python code of its own (auto_map). Lorry fetches none and runs none: "
            "the model works where the engine knows its architecture without it"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    partial.rename(target)
    model = _record(order, snapshot.commit, ground.registry.transactions.now(), remote_code)
    return _entered(ground.registry, target, snapshot, replace(model, files=_recorded_files(files, digests)))


def _record(order: PullOrder, commit: str, at: float, remote_code: bool) -> PulledModel:
    return PulledModel(
        hub=order.hub,
        id=order.id,
        commit=commit,
        asked_revision=order.revision,
        pulled_by=order.actor,
        pulled_at=at,
        remote_code=remote_code,
        files={},
    )


def _recorded_files(files: Sequence[RemoteFile], digests: Mapping[str, str]) -> dict[str, PulledFile]:
    return {
        file.path: PulledFile(size_bytes=file.size_bytes, sha256=digests[file.path], hub_hash=file.hub_hash)
        for file in files
    }


def _entered(registry: Registry, folder: Path, snapshot: Snapshot, model: PulledModel) -> Pulled:
    made = Base(
        name=model.id,
        path=store_pulled(registry, folder),
        digest=manifest_digest({path: file.sha256 for path, file in model.files.items()}),
        licence=snapshot.licence or "unknown",
        created_at=model.pulled_at,
        provenance=model.as_provenance(),
    )
    return Pulled(base=enter_pulled(registry, made, model), model=model, was_there=False)


def _keep_only(folder: Path, paths: set[str]) -> None:
    """Remove what the clients keep beside the files."""
    shutil.rmtree(folder / ".client", ignore_errors=True)
    for path in folder.rglob("*"):
        if path.is_file() and path.relative_to(folder).as_posix() not in paths:
            path.unlink()


def _names_code(folder: Path) -> bool:
    try:
        config = json.loads((folder / "config.json").read_text())
    except ValueError as exc:
        raise HubError(f"{folder.name}: config.json is not JSON") from exc
    return isinstance(config, dict) and "auto_map" in config
