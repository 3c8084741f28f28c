"""What else keeps artifacts works with a bucket: backups, what replicas hold, pulled models, `lorry doctor`."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engines.replica.report import Phase, ReplicaReport, SlotPhase, SlotReport
from gateway.cli.operating.artifact_place import artifact_place
from gateway.pools.journal import RegistryJournal, ReplicaIdentity
from registry.artifacts import folder_digest
from registry.backups.backup import back_up, restore
from registry.database import Registry, open_registry
from registry.publishing.publish import publish
from registry.pulled.pulled_models import store_pulled
from registry.schema import migrate
from registry.settings import RegistrySettings
from registry.stores.cache import RECENT_S
from registry.types import Base, RevisionDraft
from tests.registry.stores.conftest import use
from tests.waiting import wait_for

DRAFT = RevisionDraft(adapter="support", base="tiny", owner="ann")
READY = ReplicaReport(url="http://127.0.0.1:1", phase=Phase.READY, paths=frozenset(), slots={}, load=0, message="")
IDENTITY = ReplicaIdentity(
    id="r1",
    pool="default",
    base="tiny",
    engine="transformers",
    capacity=4,
    max_rank=64,
    room=4,
    rollback_window_s=60.0,
    started_at=1.0,
)


OpenAt = Callable[..., Registry]


@pytest.fixture
def open_at(sqlite_settings: RegistrySettings, bucket_url: str, base: Base, tmp_path: Path) -> Iterator[OpenAt]:
    """Opens the registry from a machine with a cache of its own."""
    opened: list[Registry] = []

    def open_one(home: str, now: Callable[[], float] = time.time, **settings: Any) -> Registry:
        place = {"artifacts": bucket_url, "artifact_cache": tmp_path / home, **settings}
        opened.append(open_registry(sqlite_settings.model_copy(update=place), now=now))
        return opened[-1]

    open_one("first").bases.enter(base)
    yield open_one
    for registry in opened:
        registry.close()


@pytest.mark.long
def test_a_backup_of_a_registry_in_a_bucket_is_restored_into_a_folder_and_back(
    open_at: OpenAt,
    bucket_url: str,
    make_adapter: Callable[..., Path],
    sqlite_settings: RegistrySettings,
    tmp_path: Path,
) -> None:
    registry = open_at("here")
    digest = publish(registry, make_adapter(), DRAFT).artifact
    file = registry.files.add([b"{}\n"], filename="a.jsonl", purpose="fine-tune", owner="ann")
    taken = back_up(registry, tmp_path / "backup")
    assert (taken.lost, taken.copied) == ((), taken.artifacts)
    for name, artifacts in (("folder", tmp_path / "artifacts"), ("bucket", f"{bucket_url}-again")):
        place = {"artifacts": artifacts, "artifact_cache": tmp_path / f"cache-{name}"}
        settings = sqlite_settings.model_copy(update={"url": f"sqlite:///{tmp_path / name}.db", **place})
        migrate(settings.url)
        assert restore(tmp_path / "backup", settings).lost == ()
        there = open_registry(settings)
        assert folder_digest(there.artifacts.folder(digest)) == digest
        assert there.files.path(file).read_bytes() == b"{}\n"
        there.close()


@pytest.mark.long
def test_what_a_replica_has_loaded_stays_on_its_machine_until_it_is_unloaded(
    open_at: OpenAt, make_adapter: Callable[..., Path]
) -> None:
    here = open_at("here")
    stable, held = (publish(here, make_adapter(seed), DRAFT) for seed in (1, 2))
    size = sum(path.stat().st_size for path in here.artifacts.folder(stable.artifact).rglob("*"))
    clock = [time.time()]
    host = open_at("host", lambda: clock[0], artifact_cache_bytes=size + size // 2)
    journal = RegistryJournal(host, IDENTITY)
    journal.report(READY)
    assert journal.wanted()[held.served_name] == held.artifact
    journal.fetch(held.artifact)
    journal.report(dataclasses.replace(READY, slots={held.served_name: SlotReport(phase=SlotPhase.READY)}))
    clock[0] += 2 * RECENT_S
    with pytest.raises(OSError, match="artifact_cache_bytes"):
        journal.fetch(stable.artifact)
    here.adapters.retire(held.adapter, held.number, "ann")
    wait_for(lambda: held.served_name not in journal.wanted(), timeout_s=120)
    journal.report(READY)
    assert journal.fetch(stable.artifact).is_dir()


def test_a_pulled_model_is_served_from_the_cache_of_a_machine_that_has_not_its_folder(
    open_at: OpenAt, small_folder: Path
) -> None:
    digest = folder_digest(small_folder)
    here, there = open_at("here"), open_at("there")
    path = store_pulled(here, small_folder)
    pulled = Base(name="org/model", path=path, digest=digest, licence="mit", created_at=1.0)
    shutil.rmtree(small_folder, ignore_errors=True)
    found = there.at_hand(pulled)
    assert folder_digest(Path(found.path)) == digest
    assert Path(found.path).is_relative_to(there.artifacts.disk)
    # A path that was recorded on another machine, as of a folder that a pool names there.
    moved = dataclasses.replace(pulled, path="/nowhere/on/this/machine")
    assert there.at_hand(moved).path == found.path


def test_the_doctor_tries_the_bucket_and_says_what_is_wrong(
    s3: str, bucket_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "lorry.toml"
    settings.write_text(f'[registry]\nartifacts = "{bucket_url}"\n')
    monkeypatch.setenv("LORRY_CONFIG", str(settings))
    assert artifact_place().trouble is None
    use(s3, monkeypatch, AWS_SECRET_ACCESS_KEY="wrong")
    assert "SignatureDoesNotMatch" in (artifact_place().trouble or "")
