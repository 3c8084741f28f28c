"""A registry in which a rollout can begin at once."""

from __future__ import annotations

import pytest

from registry.database import Registry
from tests.gateway.stage import report


@pytest.fixture
def loaded(two_revisions: Registry) -> Registry:
    """Both revisions are on the only replica."""
    report(two_revisions, "r1", "support@1", "support@2")
    return two_revisions
