"""The versions of libraries that a result depends on."""

from __future__ import annotations

import sys

import pytest

from trainer.training.base_model import library_versions


def test_a_library_that_a_child_hides_or_lacks_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)  # as `trainer.child` hides it
    assert "bitsandbytes" not in library_versions()
