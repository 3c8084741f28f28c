"""Callers and what they may do: API keys, kept in memory and read from the registry again and again."""

from __future__ import annotations

import asyncio
import hmac
import logging
import math
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from secrets import token_hex
from typing import Final

from gateway.errors import InvalidRequest, ScopeMissing, Unauthenticated
from registry.changes import KEYS
from registry.database import Registry
from registry.errors import RegistryError, RegistryUnavailable
from registry.jobs.adapter_owners import Claim
from registry.keys import Key, KeyLimits, Scope, ValidKeys
from registry.types import LOCAL_TENANT, Priority

log = logging.getLogger(__name__)

SHARED_AFTER: Final = 2.0
"""Readings until every gateway that can read the registry follows a change: the first may have begun before it."""

_WHOLE_EVERY_S: Final = 10.0
"""How often the keys themselves are read where their change number stays: it misses what was changed by hand."""
_BEARER: Final = b"bearer "
_LOOKED_UP: Final = 16
"""Leading bytes of a hash by which a key is looked up; no two keys share so many."""
_CHALLENGE: Final = {"www-authenticate": "Bearer"}
_ORDER: Final = (Priority.HIGH, Priority.NORMAL, Priority.LOW)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The sender of a request."""

    key_id: str
    """Id of the key, empty where no key exists."""
    name: str
    tenant: str
    """Whose files, jobs, adapters and answers the caller works on."""
    scopes: frozenset[Scope]
    models: frozenset[str] | None
    """Names of models that the caller may use; None means all that its tenant may use."""
    priority: Priority
    limits: KeyLimits
    shares_adapters: bool = False
    """Whether the adapters that the caller makes are open to every key."""
    is_limited: bool = field(init=False)
    """Whether the key has a limit; computed once, as every request asks for it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_limited", not self.limits.are_none)

    @property
    def is_admin(self) -> bool:
        """Whether the caller works on the files, jobs and adapters of every tenant."""
        return Scope.ADMIN in self.scopes

    @property
    def sees(self) -> str | None:
        """The tenant whose files and jobs the caller sees; None for those of every tenant."""
        return None if self.is_admin else self.tenant

    def claim_on(self, adapter: str) -> Claim:
        """Return what the caller may do with *adapter* if it trains or publishes it."""
        is_named = self.models is not None and adapter in self.models
        return Claim(tenant=self.tenant, shares=self.shares_adapters, may_take_any=self.is_admin or is_named)

    def may_use(self, names: Collection[str], tenant: str | None) -> bool:
        """Whether the caller may use a model by one of *names*; *tenant* owns it, None if every key may use it."""
        if self.models is not None:
            return not self.models.isdisjoint(names)
        return tenant is None or tenant == self.tenant or self.is_admin


ANYBODY: Final = Caller(
    key_id="",
    name="local",
    tenant=LOCAL_TENANT,
    scopes=frozenset(Scope),
    models=None,
    priority=Priority.NORMAL,
    limits=KeyLimits(),
    shares_adapters=True,
)
"""Every caller while no key was ever created, when only loopback is served."""


OURSELVES: Final = Caller(
    key_id="",
    name="lorry",
    tenant=LOCAL_TENANT,
    scopes=frozenset({Scope.INFERENCE, Scope.ADMIN}),
    models=None,
    priority=Priority.LOW,
    limits=KeyLimits(),
)
"""This process where it asks for a gate; no request from outside can be of this caller."""


class Keyring:
    """The valid keys as of the last reading, which stay valid while the registry is down."""

    def __init__(self, registry: Registry, *, refresh_s: float, report_s: float, is_loopback: bool) -> None:
        self._registry = registry
        self._refresh_s = refresh_s
        self._report_s = report_s
        self._is_loopback = is_loopback
        self._read: ValidKeys | None = None
        self.is_keyless = True
        """Whether no key was ever made, or the keys were not read yet."""
        self._callers: Mapping[bytes, tuple[bytes, Caller]] = {}
        """Leading bytes of a hash -> the whole hash and its caller."""
        self._lent: dict[str, bytes] = {}
        """Id of a key -> the credential by which this process itself acts with the key's rights."""
        self._own = b""
        """The credential by which this process acts for nobody else: it asks what gates of rollouts ask."""
        self._used: dict[str, float] = {}
        self.read_at = 0.0
        """When the registry was last read; unix seconds, 0 before the first reading."""
        self._read_at = -math.inf
        self._whole_until = -math.inf
        self._number: int | None = None
        """The change number of the keys as they were read; None before the first reading."""

    async def run(self) -> None:
        """Look for changes of the keys every `refresh_s` seconds until cancelled."""
        while True:
            await asyncio.sleep(self._refresh_s)
            if not self._is_current():
                await self._attempt_refresh()

    def _is_current(self) -> bool:
        """Whether the database answers at once that the keys have not changed, which counts as a reading."""
        numbers, now = self._registry.changes_at_once(), time.monotonic()
        if numbers is None or numbers.get(KEYS, 0) != self._number or now >= self._whole_until:
            return False
        self.read_at, self._read_at = time.time(), now
        return True

    async def report_use(self) -> None:
        """Store which keys were used every `report_s` seconds, until cancelled.

        A loop of its own: a database that takes no changes must not keep revoked keys in use.
        """
        while True:
            await asyncio.sleep(self._report_s)
            await self._report_use()

    @property
    def known(self) -> frozenset[str]:
        """Ids of the keys that are let in."""
        return frozenset(caller.key_id for _, caller in self._callers.values() if caller is not OURSELVES)

    def age_s(self, now: float) -> float:
        """Return how old the last reading is; *now* is monotonic."""
        return now - self._read_at

    async def refresh(self) -> None:
        """Read the keys of the registry, if they changed. Raises `RegistryError`."""
        # The number is read before the keys: a change in between is read twice, but never missed.
        numbers = self._registry.changes_at_once()
        latest = await asyncio.to_thread(self._registry.keys.valid, self._read)
        self._number = None if numbers is None else numbers.get(KEYS, 0)
        self.read_at, self._read_at = time.time(), time.monotonic()
        self._whole_until = self._read_at + _WHOLE_EVERY_S
        if latest is not self._read:
            self._read, self._callers = latest, dict(_entry(key) for key in latest.keys)
            self.is_keyless = latest.is_keyless
            lent_to = [caller for _, caller in self._callers.values() if caller.key_id in self._lent]
            self._lent = {caller.key_id: self._lend(caller) for caller in lent_to}

    def caller_with(self, key_id: str) -> Caller | None:
        """Return the caller with the valid key of this id; everybody for an empty id while no key exists.

        Raises `RegistryUnavailable` before the first reading of the keys.
        """
        self._check_read()
        if self.is_keyless:
            return ANYBODY if self._is_loopback and not key_id else None
        return next((caller for _, caller in self._callers.values() if caller.key_id == key_id != ""), None)

    def lend(self, key_id: str) -> bytes | None:
        """Return the value of `authorization` by which this process acts with the key's rights; None if it has none.

        The credential is known to this process only, and ends with the key.
        """
        caller = self.caller_with(key_id)
        if caller is None or not key_id:
            return None if caller is None else b""
        if key_id not in self._lent:
            self._lent[key_id] = self._lend(caller)
        return b"Bearer " + self._lent[key_id]

    def lend_own(self) -> bytes:
        """Return the value of `authorization` by which this process asks any model, with no limits and no key."""
        self._own = self._own or token_hex(32).encode()
        digest = sha256(self._own).digest()
        if digest[:_LOOKED_UP] not in self._callers:  # it is not there after the keys were read anew
            self._callers = {**self._callers, digest[:_LOOKED_UP]: (digest, OURSELVES)}
        return b"Bearer " + self._own

    def _lend(self, caller: Caller) -> bytes:
        secret = self._lent.get(caller.key_id) or token_hex(32).encode()
        digest = sha256(secret).digest()
        self._callers = {**self._callers, digest[:_LOOKED_UP]: (digest, caller)}
        return secret

    async def _attempt_refresh(self) -> None:
        try:
            await self.refresh()
        except RegistryError as exc:
            log.warning("API keys not read, keeping the last ones", extra={"error": str(exc)})

    async def _report_use(self) -> None:
        used, self._used = self._used, {}
        used.pop("", None)  # of this process itself
        if not used:
            return
        try:
            await asyncio.to_thread(self._registry.keys.note_use, used)
        except RegistryError as exc:
            # Keys used during the failed attempt keep their later times.
            self._used = used | self._used
            log.warning("use of API keys not stored, retrying", extra={"error": str(exc)})

    def caller_of(self, authorization: bytes, now_unix: float) -> Caller:
        """Return the caller of the key in the header's value, and note *now_unix* as the time of its last use.

        Raises `Unauthenticated` without a valid key, `RegistryUnavailable` before the first reading of the keys.
        """
        if self.is_keyless:
            self._check_read()
            return self._anybody()
        if authorization[:7].lower() != _BEARER:
            raise Unauthenticated(
                "no API key was sent; send the header `Authorization: Bearer sk-lorry-...`", headers=_CHALLENGE
            )
        digest = sha256(authorization[7:].strip()).digest()
        found = self._callers.get(digest[:_LOOKED_UP])
        # The time of the lookup helps no attacker, who cannot choose the bytes of a hash; the comparison that decides
        # takes the same time for every key.
        if found is None or not hmac.compare_digest(found[0], digest):
            raise Unauthenticated("the API key is not valid; it was mistyped or revoked", headers=_CHALLENGE)
        self._used[found[1].key_id] = now_unix
        return found[1]

    def _check_read(self) -> None:
        if self._read is None:
            raise RegistryUnavailable("the API keys were not read from the registry yet; try again in a moment")

    def _anybody(self) -> Caller:
        if self._is_loopback:
            return ANYBODY
        raise Unauthenticated(
            "no API key exists and this address is not loopback; create one on the gateway's machine with "
            "`lorry keys create --home --name NAME`",
            headers=_CHALLENGE,
        )

    def check(self, caller: Caller, *scopes: Scope) -> None:
        """Raise `ScopeMissing` unless *caller* has one of *scopes*."""
        if caller.scopes.isdisjoint(scopes):
            raise ScopeMissing(
                f"the key {caller.name!r} lacks the scope {' or '.join(sorted(scopes))}; "
                f"it has {', '.join(sorted(caller.scopes)) or 'none'}"
            )


def _entry(key: Key) -> tuple[bytes, tuple[bytes, Caller]]:
    digest = bytes.fromhex(key.hash)
    return digest[:_LOOKED_UP], (digest, _caller(key))


def _caller(key: Key) -> Caller:
    return Caller(
        key_id=key.id,
        name=key.name,
        tenant=key.tenant or key.name,
        scopes=key.scopes,
        models=key.models,
        priority=key.priority,
        limits=key.limits,
        # What an admin makes is for everybody, unless the admin works for one tenant.
        shares_adapters=Scope.ADMIN in key.scopes and not key.tenant,
    )


def credential_of(authorization: bytes | None, x_api_key: bytes | None, api_key: bytes | None) -> bytes:
    """Return the argument of `caller_of`: the header `authorization`, else `x-api-key`, else `api-key`.

    Anthropic's clients send the second, Azure's the third.
    """
    if authorization is not None:
        return authorization
    key = api_key if x_api_key is None else x_api_key
    return b"" if key is None else b"Bearer " + key


def names_of(model: str, aliases: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names that allow the *model* of a request: the model itself, its served name, its adapter.

    *aliases* come from the route table, `ft:...` -> served name.
    """
    served_name = aliases.get(model, model)
    return model, served_name, served_name.partition("@")[0]


def priority_of(caller: Caller, asked: str | None) -> Priority:
    """Return the lower of the caller's priority and *asked*, the header `x-lorry-priority`. Raises `InvalidRequest`."""
    if asked is None:
        return caller.priority
    if asked not in _ORDER:
        raise InvalidRequest(
            f"x-lorry-priority must be {', '.join(_ORDER)}; got {asked[:64]!r}", param="x-lorry-priority"
        )
    return max(caller.priority, Priority(asked), key=_ORDER.index)
