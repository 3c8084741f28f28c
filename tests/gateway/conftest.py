"""What the tests of the gateway share."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from registry.database import Registry
from registry.fingerprint import write_fingerprint
from registry.publications import discard_uploads
from registry.publish import publish
from registry.publish_spec import PublishSpec
from registry.types import Revision, RevisionDraft
from tests.conftest import made_up_fingerprint


@pytest.fixture
def publish_queued(sqlite_registry: Registry, tmp_path: Path) -> Callable[[], Revision | None]:
    """Does what a trainer does with the oldest queued publication, but makes its fingerprint up; None if none waits."""
    registry = sqlite_registry

    def work() -> Revision | None:
        lease = registry.jobs.claim("w1", 60.0)
        if lease is None:
            return None
        job = registry.jobs.get(lease.job_id)
        assert isinstance(job.spec, PublishSpec)
        folder = tmp_path / job.id
        shutil.copytree(registry.artifacts.folder(job.spec.artifact), folder, copy_function=shutil.copyfile)
        write_fingerprint(made_up_fingerprint(job.spec.base_digest), folder)
        draft = RevisionDraft(adapter=job.spec.adapter, base=job.spec.base, owner=job.owner)
        revision = publish(registry, folder, draft, lease=lease)
        discard_uploads(registry)
        return revision

    return work
