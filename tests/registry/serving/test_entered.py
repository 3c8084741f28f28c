"""Engines that were entered by hand are listed until they are removed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from registry.database import Registry
from registry.errors import Conflict, NotFound
from registry.types import Base, EnteredEngine

ENGINE = EnteredEngine(
    id="hand-1", url="http://127.0.0.1:9000", engine="vllm", base="tiny", capacity=4, actor="ann", created_at=1.0
)


def test_what_is_entered_is_listed_and_on_record(registry: Registry, base: Base) -> None:
    registry.bases.enter(base)
    registry.entered.enter(ENGINE)
    assert registry.entered.list() == [ENGINE]
    assert [(entry.actor, entry.action, entry.subject) for entry in registry.audit.list()] == [
        ("ann", "replica.enter", "hand-1")
    ]


def test_an_address_is_entered_once(registry: Registry, base: Base) -> None:
    registry.bases.enter(base)
    registry.entered.enter(ENGINE)
    with pytest.raises(Conflict, match="entered already"):
        registry.entered.enter(replace(ENGINE, id="hand-2"))


def test_an_unknown_base_is_answered_with_those_there_are(registry: Registry, base: Base) -> None:
    registry.bases.enter(base)
    with pytest.raises(NotFound, match="there are: tiny"):
        registry.entered.enter(replace(ENGINE, base="other"))
    assert registry.entered.list() == []


def test_what_is_taken_out_is_gone_and_another_is_answered_with_those_there_are(registry: Registry, base: Base) -> None:
    registry.bases.enter(base)
    registry.entered.enter(ENGINE)
    with pytest.raises(NotFound, match=r"there are: hand-1\. Replicas of a pool"):
        registry.entered.remove("hand-2", "ann")
    registry.entered.remove("hand-1", "ann")
    assert registry.entered.list() == []
