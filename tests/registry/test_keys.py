"""A secret is shown once, names are unique among valid keys, and someone can always make another key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import sqlalchemy as sa

from registry import tables
from registry.database import Registry
from registry.errors import Conflict, NotFound
from registry.keys import KEY_PREFIX, KeyDraft, KeyLimits, Scope, hash_of
from registry.states import Priority

ADMIN = KeyDraft(name="root", scopes=frozenset(Scope))
CHAT = KeyDraft(
    name="chat",
    scopes=frozenset({Scope.INFERENCE}),
    owner="ann",
    models=frozenset({"support", "tiny"}),
    limits=KeyLimits(requests_per_minute=60, tokens_per_minute=6_000_000_000, concurrent_requests=4),
    priority=Priority.LOW,
)


def test_only_a_hash_of_the_secret_is_kept(registry: Registry) -> None:
    issued = registry.keys.create(ADMIN, actor="ann")
    assert issued.secret.startswith(KEY_PREFIX)
    assert len(issued.secret) == len(KEY_PREFIX) + 43
    with registry.transactions.read() as tx:
        rows = [str(dict(row)) for row in tx.execute(sa.select(tables.keys)).mappings()]
        rows += [str(dict(row)) for row in tx.execute(sa.select(tables.audit)).mappings()]
    assert not any(issued.secret in row for row in rows)
    assert issued.key.hash == hash_of(issued.secret)
    assert issued.secret.endswith(issued.key.hint)


def test_a_key_is_read_as_it_was_made(registry: Registry) -> None:
    root = registry.keys.create(ADMIN, actor="ann").key
    chat = registry.keys.create(CHAT, actor="root").key
    assert registry.keys.list() == [chat, root]
    assert registry.keys.valid().keys == (root, chat)
    assert (chat.name, chat.owner, chat.scopes, chat.models) == (CHAT.name, CHAT.owner, CHAT.scopes, CHAT.models)
    assert (chat.limits, chat.priority, chat.actor, chat.created_at) == (CHAT.limits, Priority.LOW, "root", 1000.0)
    assert root.models is None


def test_the_first_key_can_make_others(registry: Registry) -> None:
    assert registry.keys.valid().is_keyless
    with pytest.raises(Conflict, match="first key must have the scope admin"):
        registry.keys.create(CHAT, actor="ann")
    registry.keys.create(ADMIN, actor="ann")
    registry.keys.create(CHAT, actor="ann")
    assert not registry.keys.valid().is_keyless


def test_the_last_key_for_admin_stays(registry: Registry) -> None:
    registry.keys.create(ADMIN, actor="ann")
    registry.keys.create(CHAT, actor="ann")
    with pytest.raises(Conflict, match="last one with the scope admin"):
        registry.keys.revoke("root", actor="ann")
    registry.keys.create(replace(ADMIN, name="root-2"), actor="ann")
    registry.keys.revoke("root", actor="ann")
    assert [key.name for key in registry.keys.valid().keys] == ["chat", "root-2"]


def test_a_revoked_key_stays_on_the_list_and_frees_its_name(
    registry: Registry, advance: Callable[[float], None]
) -> None:
    registry.keys.create(ADMIN, actor="ann")
    old = registry.keys.create(CHAT, actor="ann")
    with pytest.raises(Conflict, match="named 'chat' already"):
        registry.keys.create(CHAT, actor="ann")
    advance(5)
    assert registry.keys.revoke(old.key.id, actor="bob").revoked_at == 1005.0
    new = registry.keys.create(CHAT, actor="ann")
    assert [key.id for key in registry.keys.list()][:2] == [new.key.id, old.key.id]
    assert registry.keys.revoke("chat", actor="bob").id == new.key.id
    with pytest.raises(NotFound, match="no valid key 'chat'; there are: root"):
        registry.keys.revoke("chat", actor="bob")


def test_reading_again_is_the_same_object_until_something_changed(registry: Registry) -> None:
    registry.keys.create(ADMIN, actor="ann")
    first = registry.keys.valid()
    registry.keys.note_use({first.keys[0].id: 1001.0})
    assert registry.keys.valid(first) is first
    registry.keys.create(CHAT, actor="ann")
    second = registry.keys.valid(first)
    registry.keys.revoke("chat", actor="ann")
    assert [len(read.keys) for read in (first, second, registry.keys.valid(second))] == [1, 2, 1]


def test_the_latest_use_is_kept(registry: Registry) -> None:
    key = registry.keys.create(ADMIN, actor="ann").key
    for at in (1002.0, 1001.0):
        registry.keys.note_use({key.id: at, "key_gone": at})
    assert [key.last_used_at for key in registry.keys.list()] == [1002.0]


def test_making_and_revoking_are_on_record(registry: Registry) -> None:
    registry.keys.create(ADMIN, actor="ann")
    chat = registry.keys.create(CHAT, actor="root").key
    registry.keys.revoke("chat", actor="root")
    entries = registry.audit.list()
    assert [(entry.actor, entry.action) for entry in entries] == [
        ("root", "key.revoke"),
        ("root", "key.create"),
        ("ann", "key.create"),
    ]
    assert entries[1].subject == chat.id
    assert entries[1].detail == {
        "name": "chat",
        "owner": "ann",
        "tenant": "",
        "scopes": ["inference"],
        "models": ["support", "tiny"],
        "priority": "low",
        "requests_per_minute": 60,
        "tokens_per_minute": 6_000_000_000,
        "concurrent_requests": 4,
    }
