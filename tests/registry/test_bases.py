"""A base model's name always means the same weights."""

from __future__ import annotations

from dataclasses import replace

import pytest

from registry.database import Registry
from registry.errors import Conflict, NotFound
from registry.types import Base


def test_entering_the_same_weights_again_only_refreshes_their_path(registry: Registry, base: Base) -> None:
    assert registry.bases.enter(base) == base
    moved = registry.bases.enter(replace(base, path="/elsewhere/tiny", created_at=99.0))
    assert moved == replace(base, path="/elsewhere/tiny")
    assert registry.bases.list() == [moved]


def test_other_weights_under_the_same_name_are_refused(registry: Registry, base: Base) -> None:
    registry.bases.enter(base)
    with pytest.raises(Conflict, match="another name"):
        registry.bases.enter(replace(base, digest="f" * 64))
    assert registry.bases.get("tiny") == base


def test_a_base_model_cannot_take_the_name_of_an_adapter(published: Registry, base: Base) -> None:
    with pytest.raises(Conflict, match="name of an adapter"):
        published.bases.enter(replace(base, name="support"))


def test_an_unknown_base_model_is_answered_with_those_there_are(registry: Registry, base: Base) -> None:
    with pytest.raises(NotFound, match="there are none"):
        registry.bases.get("tiny")
    registry.bases.enter(base)
    with pytest.raises(NotFound, match="there are: tiny"):
        registry.bases.get("big")
