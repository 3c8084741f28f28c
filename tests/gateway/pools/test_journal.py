"""A replica asks placement again as soon as something that decides it has changed, and not before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import sqlalchemy as sa

from engines.replica.report import Phase, ReplicaReport
from gateway.pools.journal import RegistryJournal, ReplicaIdentity
from registry.database import Registry
from registry.publishing.publish import publish
from registry.types import Base, RevisionDraft
from tests.waiting import wait_for

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
READY = ReplicaReport(url="http://127.0.0.1:1", phase=Phase.READY, paths=frozenset(), slots={}, load=0, message="")


@dataclass
class Statements:
    """The statements that the registry's database has carried out."""

    texts: list[str] = field(default_factory=list)

    def of(self, act: Callable[[], object]) -> int:
        """Return how many statements *act* needs."""
        before = len(self.texts)
        act()
        return len(self.texts) - before


@pytest.fixture
def statements() -> Iterator[Statements]:
    seen = Statements()

    def note(_conn: object, _cursor: object, statement: str, *_: object) -> None:
        seen.texts.append(statement)

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    yield seen
    sa.event.remove(sa.Engine, "before_cursor_execute", note)


def more_than(least: int, count: int) -> int:
    return count if count > least else 0


def test_placement_is_asked_only_after_a_change(
    sqlite_registry: Registry, base: Base, make_adapter: Callable[..., Path], statements: Statements
) -> None:
    sqlite_registry.bases.enter(base)
    journal = RegistryJournal(sqlite_registry, IDENTITY)
    journal.report(READY)
    assert journal.wanted() == {}
    idle = statements.of(journal.wanted)
    publish(sqlite_registry, make_adapter(1), RevisionDraft(adapter="support", base=base.name, owner="ann"))
    changed = wait_for(lambda: more_than(idle, statements.of(journal.wanted)))  # it rests after each placement
    assert list(journal.wanted()) == ["support@1"]
    assert statements.of(journal.wanted) == idle < changed / 3


def test_what_a_request_waits_for_is_a_change_and_what_was_served_is_none(
    sqlite_registry: Registry, base: Base, statements: Statements
) -> None:
    sqlite_registry.bases.enter(base)
    journal = RegistryJournal(sqlite_registry, IDENTITY)
    journal.report(READY)
    journal.wanted()
    idle = statements.of(journal.wanted)
    sqlite_registry.uses.record("gateway", {"support@1": 1})
    assert statements.of(journal.wanted) == idle
    sqlite_registry.uses.await_revision("gateway", "support@1", 1)
    wait_for(lambda: more_than(idle, statements.of(journal.wanted)))
