"""A writer that runs out of disk space gets an error, and nothing that was stored is lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from registry.batches.batch_state import BatchState
from registry.database import Registry, open_registry
from registry.settings import RegistrySettings
from tests.registry.finalizing_batch import finalizing

pytestmark = pytest.mark.long

STORAGE_FULL = 28
"""Exit status by which `doomed.py` reports `StorageFull`."""

SMALLER_THAN_ANY_ADAPTER = 256
ROOM_FOR_THE_ADAPTER_ONLY = 4096
"""The adapters of these tests fit; the journal of a SQLite transaction does not."""


def content(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("limit", [SMALLER_THAN_ANY_ADAPTER, ROOM_FOR_THE_ADAPTER_ONLY])
@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_a_publication_that_does_not_fit_changes_nothing(
    published: Registry,
    settings: RegistrySettings,
    make_adapter: Callable[..., Path],
    doom: Callable[..., int],
    limit: int,
) -> None:
    before = published.snapshot()
    artifacts = content(Path(settings.artifacts))
    folder = str(make_adapter(seed=9))
    assert doom(action="publish", folder=folder, file_limit=limit) == STORAGE_FULL
    restarted = open_registry(settings)
    assert restarted.snapshot() == before
    assert content(Path(settings.artifacts)) == artifacts
    assert doom(action="publish", folder=folder) == 0
    assert restarted.adapters.revisions("support")[0].number == 4
    restarted.close()


def test_the_files_of_a_batch_that_do_not_fit_leave_its_results(
    registry: Registry, settings: RegistrySettings, doom: Callable[..., int]
) -> None:
    hold = finalizing(registry)
    assert doom(action="finish", hold=asdict(hold), file_limit=SMALLER_THAN_ANY_ADAPTER) == STORAGE_FULL
    assert registry.batches.get(hold.batch_id).state is BatchState.FINALIZING
    assert registry.batches.answered(hold.batch_id) == {1, 2}
    assert content(Path(settings.artifacts) / "files") == {}
    assert doom(action="finish", hold=asdict(hold)) == 0
    assert registry.batches.get(hold.batch_id).state is BatchState.COMPLETED


def test_an_upload_that_does_not_fit_changes_nothing(
    registry: Registry, settings: RegistrySettings, doom: Callable[..., int]
) -> None:
    kept = registry.files.add([b"kept"], filename="rows", purpose="fine-tune", owner="ann")
    assert doom(action="upload", file_limit=SMALLER_THAN_ANY_ADAPTER) == STORAGE_FULL
    restarted = open_registry(settings)
    assert restarted.files.list() == [kept]
    assert [path.name for path in (Path(settings.artifacts) / "files").iterdir()] == [kept.digest]
    assert list((Path(settings.artifacts) / "staging").iterdir()) == []
    restarted.close()
