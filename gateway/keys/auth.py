"""Who calls, and what the caller may do: API keys, kept in memory and read again from the registry all the time."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from gateway.errors import InvalidRequest, ModelNotAllowed, ScopeMissing, Unauthenticated
from registry.database import Registry
from registry.errors import RegistryError, RegistryUnavailable
from registry.keys import Key, KeyLimits, Scope, ValidKeys
from registry.types import Priority

log = logging.getLogger(__name__)

SHARED_AFTER: Final = 2.0
"""So many readings after a change every gateway that can read the registry acts by it."""

_BEARER: Final = b"bearer "
_LOOKED_UP: Final = 16
"""Bytes of a hash by which it is found; no two keys share so many."""
_CHALLENGE: Final = {"www-authenticate": "Bearer"}
_ORDER: Final = (Priority.HIGH, Priority.NORMAL, Priority.LOW)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who sent a request."""

    key_id: str
    """Id of the key, empty where no key exists."""
    name: str
    scopes: frozenset[Scope]
    models: frozenset[str] | None
    """Names that the caller may use; None is all of them."""
    priority: Priority
    limits: KeyLimits


ANYBODY: Final = Caller(
    key_id="", name="local", scopes=frozenset(Scope), models=None, priority=Priority.NORMAL, limits=KeyLimits()
)
"""Every caller while no key was ever made; only loopback is served then."""


class Keyring:
    """The valid keys as of the last reading, which are kept while the registry is down; `run` reads until cancelled."""

    def __init__(self, registry: Registry, *, refresh_s: float, report_s: float, is_loopback: bool) -> None:
        self._registry = registry
        self._refresh_s = refresh_s
        self._report_s = report_s
        self._is_loopback = is_loopback
        self._read: ValidKeys | None = None
        self._callers: Mapping[bytes, tuple[bytes, Caller]] = {}
        """First bytes of a hash -> the whole hash and whose it is."""
        self._used: dict[str, float] = {}

    async def run(self) -> None:
        """Read every `refresh_s` seconds, and tell every `report_s` which keys were used; what fails is tried again."""
        readings_a_report = max(1, round(self._report_s / self._refresh_s))
        while True:
            for _ in range(readings_a_report):
                await asyncio.sleep(self._refresh_s)
                await self._attempt_refresh()
            await self._report_use()

    async def refresh(self) -> None:
        """The keys are those that the registry has now; `RegistryError` if it cannot be read."""
        read = await asyncio.to_thread(self._registry.keys.valid, self._read)
        if read is not self._read:
            self._read, self._callers = read, dict(_entry(key) for key in read.keys)

    async def _attempt_refresh(self) -> None:
        try:
            await self.refresh()
        except RegistryError as exc:
            log.warning("keys not read, the last ones hold", extra={"error": str(exc)})

    async def _report_use(self) -> None:
        said, self._used = self._used, {}
        if not said:
            return
        try:
            await asyncio.to_thread(self._registry.keys.note_use, said)
        except RegistryError as exc:
            self._used = said | self._used
            log.warning("use of keys not recorded", extra={"error": str(exc)})

    def caller_of(self, authorization: bytes, now_unix: float) -> Caller:
        """The caller whose key the header's value carries; *now_unix* becomes the time of its last use.

        `Unauthenticated` without a valid key, `RegistryUnavailable` before the keys were read once.
        """
        if self._read is None:
            raise RegistryUnavailable("the API keys were not read from the registry yet; try again in a moment")
        if self._read.is_keyless:
            return self._anybody()
        if authorization[:7].lower() != _BEARER:
            raise Unauthenticated(
                "no API key was sent; send the header `Authorization: Bearer sk-lorry-...`", headers=_CHALLENGE
            )
        digest = sha256(authorization[7:].strip()).digest()
        found = self._callers.get(digest[:_LOOKED_UP])
        # what is looked up are bytes of a hash, which a caller cannot steer; what decides takes the same time for all
        if found is None or not hmac.compare_digest(found[0], digest):
            raise Unauthenticated("the API key is not valid; it was mistyped or revoked", headers=_CHALLENGE)
        self._used[found[1].key_id] = now_unix
        return found[1]

    def _anybody(self) -> Caller:
        if self._is_loopback:
            return ANYBODY
        raise Unauthenticated(
            "no API key exists and this address is not loopback; make one on the gateway's machine with "
            "`lorry keys create --home --name NAME`",
            headers=_CHALLENGE,
        )

    def check(self, caller: Caller, scope: Scope, names: Collection[str] = ()) -> None:
        """`ScopeMissing` or `ModelNotAllowed` unless *caller* has *scope* and may use the model known by *names*."""
        if scope not in caller.scopes:
            raise ScopeMissing(
                f"the key {caller.name!r} lacks the scope {scope}; it has {', '.join(sorted(caller.scopes)) or 'none'}"
            )
        if names and caller.models is not None and caller.models.isdisjoint(names):
            asked = next(iter(names))
            raise ModelNotAllowed(
                f"the key {caller.name!r} is not for the model {asked!r}; it is for {', '.join(sorted(caller.models))}",
                param="model",
            )


def _entry(key: Key) -> tuple[bytes, tuple[bytes, Caller]]:
    digest = bytes.fromhex(key.hash)
    return digest[:_LOOKED_UP], (digest, _caller(key))


def _caller(key: Key) -> Caller:
    return Caller(
        key_id=key.id,
        name=key.name,
        scopes=key.scopes,
        models=key.models,
        priority=key.priority,
        limits=key.limits,
    )


def credential_of(authorization: bytes | None, x_api_key: bytes | None) -> bytes:
    """What `caller_of` takes: the header `authorization`, else `x-api-key`, as clients of `/v1/messages` send it."""
    if authorization is None and x_api_key is not None:
        return b"Bearer " + x_api_key
    return authorization or b""


def names_of(model: str, aliases: Mapping[str, str]) -> tuple[str, ...]:
    """What a key may list to open the *model* of a request: that itself, its served name, its adapter.

    *aliases* are those of the route table, `ft:...` -> served name.
    """
    served_name = aliases.get(model, model)
    return model, served_name, served_name.partition("@")[0]


def priority_of(caller: Caller, asked: str | None) -> Priority:
    """The caller's priority, or what the header `x-lorry-priority` asks for if that is lower; `InvalidRequest` else."""
    if asked is None:
        return caller.priority
    if asked not in _ORDER:
        raise InvalidRequest(
            f"x-lorry-priority must be {', '.join(_ORDER)}; got {asked[:64]!r}", param="x-lorry-priority"
        )
    return max(caller.priority, Priority(asked), key=_ORDER.index)
