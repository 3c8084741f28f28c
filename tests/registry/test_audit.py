"""The audit log keeps the order of actions."""

from __future__ import annotations

from collections.abc import Callable

from registry.database import Registry


def test_entries_are_listed_newest_first_and_paged(registry: Registry, advance: Callable[[float], None]) -> None:
    for number in range(3):
        registry.audit.record("ann", "key.create", f"key-{number}", {"scopes": ["admin"]})
        advance(1)
    entries = registry.audit.list(limit=2)
    assert [(entry.subject, entry.at) for entry in entries] == [("key-2", 1002.0), ("key-1", 1001.0)]
    assert entries[0].detail == {"scopes": ["admin"]}
    assert [entry.subject for entry in registry.audit.list(after=entries[-1].id)] == ["key-0"]


def test_whatever_changes_what_is_served_is_on_record(published: Registry) -> None:
    actions = [(entry.actor, entry.action, entry.subject) for entry in published.audit.list()]
    assert actions == [
        ("controller", "adapter.first_stable", "support@1"),
        ("ann", "revision.publish", "support@3"),
        ("ann", "revision.publish", "support@2"),
        ("ann", "revision.publish", "support@1"),
    ]
