"""API keys: create, list, revoke and look them up. The registry stores the hash of a secret, never the secret."""

from __future__ import annotations

import builtins
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from hashlib import sha256
from typing import Any, Final
from uuid import uuid4

import sqlalchemy as sa

from registry import tables
from registry.audit import Act, write_audit
from registry.changes import UNCOUNTED
from registry.errors import Conflict, NotFound
from registry.states import Priority
from registry.transactions import Transactions
from registry.wording.suggestions import meant_or_known

KEY_PREFIX: Final = "sk-lorry-"
_SECRET_BYTES: Final = 32


class Scope(StrEnum):
    """A part of the API that a key gives access to; no scope includes another."""

    INFERENCE = "inference"  # everything that models answer
    TRAINING = "training"  # files and fine-tuning jobs
    METRICS = "metrics"  # /metrics
    ADMIN = "admin"  # /admin, keys included, and the files, jobs and adapters of all tenants


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyLimits:
    """How much inference a key may ask for; None means no limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent_requests: int | None = None

    @property
    def are_none(self) -> bool:
        """Whether the key has no limit at all."""
        return self.requests_per_minute is None and self.tokens_per_minute is None and self.concurrent_requests is None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyDraft:
    """The fields of a key to be created; none of them changes later."""

    name: str
    """Names the user of the key in the audit log; unique among valid keys."""
    scopes: frozenset[Scope]
    owner: str = ""
    tenant: str = ""
    """The tenant whose files, jobs and adapters the key works on; empty for a tenant of the key's own name."""
    models: frozenset[str] | None = None
    """Names of base models, adapters and pinned revisions that the key may use; None means all of them."""
    limits: KeyLimits = field(default_factory=KeyLimits)
    priority: Priority = Priority.NORMAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key as the registry stores it, without its secret."""

    id: str
    hash: str
    """sha256 of the secret, in hex."""
    hint: str
    """The last four characters of the secret, by which people tell their keys apart."""
    name: str
    owner: str
    tenant: str
    scopes: frozenset[Scope]
    models: frozenset[str] | None
    limits: KeyLimits
    priority: Priority
    actor: str
    """Who created the key."""
    created_at: float
    revoked_at: float | None
    last_used_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedKey:
    """A new key with its secret, which is stored nowhere."""

    key: Key
    secret: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidKeys:
    """The keys that are valid at one moment."""

    version: tuple[int, int]
    """How many keys were ever created and how many revoked; equal versions mean equal keys."""
    keys: tuple[Key, ...]

    @property
    def is_keyless(self) -> bool:
        """True until the first key is created, and never again."""
        return self.version[0] == 0


def hash_of(secret: str) -> str:
    """Return the hash that is stored of a secret; sha256 is enough for 256 random bits, which nobody can guess."""
    return sha256(secret.encode()).hexdigest()


class KeyStore:
    """Creates and revokes keys; a key never changes, so a changed key is a new one."""

    def __init__(self, transactions: Transactions) -> None:
        self._tx = transactions

    def create(self, draft: KeyDraft, actor: str) -> IssuedKey:
        """Create a key and return it with its secret.

        Raises `Conflict` if a valid key has the name, or if the first key lacks the scope admin: nobody could create a
        second one.
        """
        secret = KEY_PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
        table = tables.keys
        with self._tx.write() as tx:
            if Scope.ADMIN not in draft.scopes and _version(tx)[0] == 0:
                raise Conflict("the first key must have the scope admin, or nobody could make another one")
            # The unique index refuses the name as well, but cannot tell who has it.
            named = sa.select(table.c.id).where(table.c.name == draft.name, sa.text(tables.VALID_KEY))
            if (holder := tx.execute(named).scalar()) is not None:
                raise Conflict(f"key {holder} is named {draft.name!r} already; revoke it first or take another name")
            key = _new_key(draft, secret, actor, self._tx.now())
            tx.execute(sa.insert(table).values(_row(key)))
            write_audit(
                tx, Act(actor=actor, action="key.create", subject=key.id, detail=_audit_detail(key)), key.created_at
            )
        return IssuedKey(key=key, secret=secret)

    def revoke(self, id_or_name: str, actor: str) -> Key:
        """Revoke a key and return it.

        Raises `NotFound`, which lists the valid keys, or `Conflict` for the last valid key with the scope admin.
        """
        now = self._tx.now()
        with self._tx.write() as tx:
            # All valid keys are locked: two callers who revoke the last two admin keys would count on each other's.
            valid = _valid_keys(tx, lock=True)
            named = {key.name: key for key in valid} | {key.id: key for key in valid}
            if id_or_name not in named:
                names = sorted(key.name for key in valid)
                raise NotFound(f"there is no valid key {id_or_name!r}{meant_or_known(id_or_name, names)}")
            key = named[id_or_name]
            if not any(Scope.ADMIN in other.scopes for other in valid if other is not key):
                raise Conflict(f"key {key.name!r} is the last one with the scope admin; make another one first")
            tx.execute(sa.update(tables.keys).where(tables.keys.c.id == key.id).values(revoked_at=now))
            write_audit(tx, Act(actor=actor, action="key.revoke", subject=key.id, detail={"name": key.name}), now)
            return replace(key, revoked_at=now)

    def list(self) -> builtins.list[Key]:
        """Return every key that was ever created, newest first."""
        query = sa.select(tables.keys).order_by(tables.keys.c.seq.desc())
        with self._tx.read() as tx:
            return [_key(dict(row)) for row in tx.execute(query).mappings()]

    def valid(self, known: ValidKeys | None = None) -> ValidKeys:
        """Return the keys that are valid now; *known* itself if nothing changed since it was read."""
        with self._tx.read() as tx:
            version = _version(tx)
            if known is not None and known.version == version:
                return known
            return ValidKeys(version=version, keys=tuple(_valid_keys(tx)))

    def note_use(self, used_at: Mapping[str, float]) -> None:
        """Store when keys were last used, by key id; a time earlier than the stored one changes nothing."""
        table = tables.keys
        with self._tx.write() as tx:
            # Sorted, so that two gateways which report the same keys lock the rows in one order and cannot deadlock.
            for key_id, at in sorted(used_at.items()):
                is_later = sa.or_(table.c.last_used_at.is_(None), table.c.last_used_at < at)
                noted = sa.update(table).where(table.c.id == key_id, is_later).values(last_used_at=at)
                tx.execute(noted, execution_options={UNCOUNTED: True})


def _version(tx: sa.Connection) -> tuple[int, int]:
    # plain SQL, as in `changes_in`: every gateway asks several times a second
    made, revoked = tx.exec_driver_sql("SELECT count(*), count(revoked_at) FROM keys").one()
    return made, revoked


def _valid_keys(tx: sa.Connection, *, lock: bool = False) -> list[Key]:
    query = sa.select(tables.keys).where(sa.text(tables.VALID_KEY)).order_by(tables.keys.c.seq)
    return [_key(dict(row)) for row in tx.execute(query.with_for_update() if lock else query).mappings()]


def _new_key(draft: KeyDraft, secret: str, actor: str, now: float) -> Key:
    return Key(
        id=f"key_{uuid4().hex[:16]}",
        hash=hash_of(secret),
        hint=secret[-4:],
        name=draft.name,
        owner=draft.owner,
        tenant=draft.tenant,
        scopes=draft.scopes,
        models=draft.models,
        limits=draft.limits,
        priority=draft.priority,
        actor=actor,
        created_at=now,
        revoked_at=None,
        last_used_at=None,
    )


_LIMITS: Final = tuple(limit.name for limit in fields(KeyLimits))


def _row(key: Key) -> dict[str, Any]:
    columns: dict[str, Any] = asdict(key)
    limits: dict[str, Any] = columns.pop("limits")
    models = None if key.models is None else sorted(key.models)
    return columns | limits | {"scopes": sorted(key.scopes), "models": models}


def _key(row: Mapping[str, Any]) -> Key:
    columns = {name: value for name, value in row.items() if name not in ("seq", *_LIMITS)}
    models = None if row["models"] is None else frozenset(row["models"])
    columns |= {"scopes": frozenset(Scope(scope) for scope in row["scopes"]), "models": models}
    columns |= {"limits": KeyLimits(**{name: row[name] for name in _LIMITS}), "priority": Priority(row["priority"])}
    return Key(**columns)


def _audit_detail(key: Key) -> dict[str, Any]:
    """Return the facts of a new key that the audit log records."""
    row = _row(key)
    return {name: row[name] for name in ("name", "owner", "tenant", "scopes", "models", "priority", *_LIMITS)}
