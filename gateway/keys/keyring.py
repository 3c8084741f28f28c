"""The valid API keys, kept in memory and read from the registry again and again."""

from __future__ import annotations

import asyncio
import hmac
import logging
import math
import time
from collections.abc import Mapping
from hashlib import sha256
from secrets import token_hex
from typing import Final

from gateway.errors import ScopeMissing, Unauthenticated
from gateway.keys.caller import ANYBODY, OURSELVES, Caller, caller_with
from registry.changes import KEYS
from registry.database import Registry
from registry.errors import RegistryError, RegistryUnavailable
from registry.keys import Key, Scope, ValidKeys

log = logging.getLogger(__name__)

SHARED_AFTER: Final = 2.0
"""Readings until every gateway that can read the registry follows a change: the first may have begun before it."""

_WHOLE_EVERY_S: Final = 10.0
"""How often the keys themselves are read where their change number stays: it misses what was changed by hand."""
_BEARER: Final = b"bearer "
_LOOKED_UP: Final = 16
"""Leading bytes of a hash by which a key is looked up; no two keys share so many."""
_CHALLENGE: Final = {"www-authenticate": "Bearer"}


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
        self._one_storing = asyncio.Lock()
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
            await self.store_use()

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

    async def store_use(self) -> None:
        """Store which keys were used before this call. What the registry does not take is for the next one."""
        # A call that is cancelled goes on, since its thread may not have begun yet, and the next one waits for it.
        await asyncio.shield(self._store_use())

    async def _store_use(self) -> None:
        async with self._one_storing:
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
    return digest[:_LOOKED_UP], (digest, caller_with(key))
