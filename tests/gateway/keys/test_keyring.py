"""A key opens its scopes from its making to its revocation; without any key only this machine is served."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from gateway.errors import InvalidRequest, ModelNotAllowed, ScopeMissing, Unauthenticated
from gateway.keys.access import check_model
from gateway.keys.caller import ANYBODY, credential_of, priority_of
from gateway.keys.keyring import Keyring
from gateway.routing.routing import RouteTable
from gateway.settings import GatewaySettings
from registry import tables
from registry.database import Registry
from registry.errors import RegistryUnavailable
from registry.keys import IssuedKey, KeyDraft, KeyLimits, Scope
from registry.states import Priority
from tests.gateway.cancelled_flush import cancel_and_flush_again
from tests.gateway.served import ServedGateway
from tests.waiting import wait_for

Issue = Callable[..., IssuedKey]
INFERENCE = frozenset({Scope.INFERENCE})


@pytest.fixture
def issue(sqlite_registry: Registry) -> Issue:
    """Makes a key."""

    def make(name: str = "root", scopes: frozenset[Scope] = frozenset(Scope), **fields: object) -> IssuedKey:
        return sqlite_registry.keys.create(KeyDraft(name=name, scopes=scopes, **fields), actor="ann")  # type: ignore[arg-type]

    return make


def ring(registry: Registry, *, is_loopback: bool = True) -> Keyring:
    """Return a keyring that has read the keys."""
    made = Keyring(registry, refresh_s=0.01, report_s=0.01, is_loopback=is_loopback)
    asyncio.run(made.refresh())
    return made


def bearer(secret: str) -> bytes:
    return f"Bearer {secret}".encode()


def test_a_key_names_its_caller(sqlite_registry: Registry, issue: Issue) -> None:
    issue()
    limits = KeyLimits(requests_per_minute=5)
    chat = issue("chat", INFERENCE, models=frozenset({"support"}), limits=limits, priority=Priority.LOW)
    caller = ring(sqlite_registry).caller_of(bearer(chat.secret), 0.0)
    assert (caller.key_id, caller.name, caller.scopes) == (chat.key.id, "chat", INFERENCE)
    assert (caller.models, caller.limits, caller.priority) == (frozenset({"support"}), limits, Priority.LOW)


@pytest.mark.parametrize("header", ["Bearer {}", "bearer {}", "BEARER  {} "])
def test_the_scheme_is_read_as_http_has_it(sqlite_registry: Registry, issue: Issue, header: str) -> None:
    secret = issue().secret
    assert ring(sqlite_registry).caller_of(header.format(secret).encode(), 0.0).name == "root"


@pytest.mark.parametrize("header", ["", "Bearer ", "Bearer none", "{}", "Basic {}", "Bearer {}x", "Bearer x{}"])
def test_anything_but_a_valid_key_is_refused_with_a_challenge(
    sqlite_registry: Registry, issue: Issue, header: str
) -> None:
    secret = issue().secret
    with pytest.raises(Unauthenticated) as refused:
        ring(sqlite_registry).caller_of(header.format(secret).encode(), 0.0)
    assert refused.value.headers == {"www-authenticate": "Bearer"}
    assert secret not in str(refused.value)


def test_until_the_first_key_this_machine_may_do_everything_and_no_other(sqlite_registry: Registry) -> None:
    assert ring(sqlite_registry).caller_of(b"Bearer none", 0.0) is ANYBODY
    assert ANYBODY.scopes == frozenset(Scope)
    with pytest.raises(Unauthenticated, match="lorry keys create --home"):
        ring(sqlite_registry, is_loopback=False).caller_of(b"", 0.0)


def test_keys_that_were_all_revoked_by_hand_let_nobody_in(sqlite_registry: Registry, issue: Issue) -> None:
    secret = issue().secret
    with sqlite_registry.transactions.write() as tx:
        tx.execute(sa.update(tables.keys).values(revoked_at=1.0))
    keyring = ring(sqlite_registry)
    for header in (b"", bearer(secret)):
        with pytest.raises(Unauthenticated):
            keyring.caller_of(header, 0.0)


def test_before_the_keys_were_read_nobody_is_let_in(sqlite_registry: Registry) -> None:
    with pytest.raises(RegistryUnavailable):
        Keyring(sqlite_registry, refresh_s=1, report_s=1, is_loopback=True).caller_of(b"", 0.0)


async def _while_running(keyring: Keyring, steps: Callable[[], object]) -> None:
    running = [asyncio.create_task(keyring.run()), asyncio.create_task(keyring.report_use())]
    await asyncio.to_thread(steps)
    for loop in running:
        assert not loop.done()
        loop.cancel()


def is_let_in(keyring: Keyring, secret: str) -> bool:
    try:
        keyring.caller_of(bearer(secret), 0.0)
    except Unauthenticated:
        return False
    return True


def test_new_and_revoked_keys_are_known_soon(sqlite_registry: Registry, issue: Issue) -> None:
    keyring = ring(sqlite_registry)

    def steps() -> None:
        issue()
        secret = issue("chat", INFERENCE).secret
        wait_for(lambda: is_let_in(keyring, secret))
        sqlite_registry.keys.revoke("chat", actor="ann")
        wait_for(lambda: not is_let_in(keyring, secret))

    asyncio.run(_while_running(keyring, steps))


def test_the_last_keys_hold_while_the_registry_is_away(sqlite_registry: Registry, issue: Issue, tmp_path: Path) -> None:
    secret = issue().secret
    keyring = ring(sqlite_registry)
    sqlite_registry.close()
    for part in tmp_path.glob("registry.db*"):
        part.unlink()
    with pytest.raises(RegistryUnavailable):
        asyncio.run(keyring.refresh())
    assert is_let_in(keyring, secret)
    assert not is_let_in(keyring, "sk-lorry-other")


def test_the_last_use_is_told_to_the_registry(sqlite_registry: Registry, issue: Issue) -> None:
    secret = issue().secret
    keyring = ring(sqlite_registry)
    keyring.caller_of(bearer(secret), 1234.5)
    asyncio.run(
        _while_running(keyring, lambda: wait_for(lambda: sqlite_registry.keys.list()[0].last_used_at == 1234.5))
    )


def test_a_report_that_is_cancelled_before_its_thread_begins_loses_no_use(
    sqlite_registry: Registry, issue: Issue
) -> None:
    secret = issue().secret
    keyring = ring(sqlite_registry)
    keyring.caller_of(bearer(secret), 1234.5)
    asyncio.run(cancel_and_flush_again(keyring.store_use))
    assert sqlite_registry.keys.list()[0].last_used_at == 1234.5


def test_the_last_use_is_stored_at_the_end_of_the_gateway(sqlite_registry: Registry, issue: Issue) -> None:
    secret = issue().secret
    with ServedGateway(GatewaySettings(), sqlite_registry) as served:
        headers = {"authorization": bearer(secret).decode()}
        assert served.client.get("/v1/models", headers=headers).status_code == 200
    assert sqlite_registry.keys.list()[0].last_used_at is not None


def test_a_scope_opens_only_what_it_is_for(sqlite_registry: Registry, issue: Issue) -> None:
    issue()
    secret = issue("chat", INFERENCE).secret
    keyring = ring(sqlite_registry)
    caller = keyring.caller_of(bearer(secret), 0.0)
    keyring.check(caller, Scope.INFERENCE)
    for scope in (Scope.TRAINING, Scope.ADMIN):
        with pytest.raises(ScopeMissing, match=f"lacks the scope {scope}; it has inference"):
            keyring.check(caller, scope)


@pytest.mark.parametrize(
    ("listed", "open_to", "closed_to"),
    [
        ({"support"}, ["support", "support@7", "ft:tiny:acme:support:1"], ["tiny", "other", "other@7", "supp"]),
        ({"support@7"}, ["support@7", "ft:tiny:acme:support:1"], ["support", "support@8"]),
        ({"tiny"}, ["tiny"], ["support", "support@7"]),
    ],
)
def test_a_key_for_models_is_for_what_it_lists_by_any_name(
    sqlite_registry: Registry, issue: Issue, listed: set[str], open_to: list[str], closed_to: list[str]
) -> None:
    secret = issue(models=frozenset(listed)).secret
    keyring = ring(sqlite_registry)
    caller = keyring.caller_of(bearer(secret), 0.0)
    table = RouteTable(aliases={"ft:tiny:acme:support:1": "support@7"})
    for name in open_to:
        check_model(caller, table, name)
    for name in closed_to:
        with pytest.raises(ModelNotAllowed, match=f"not for the model '{name}'; it is for") as refused:
            check_model(caller, table, name)
        assert refused.value.param == "model"


def test_a_request_may_only_lower_its_priority(sqlite_registry: Registry, issue: Issue) -> None:
    caller = ring(sqlite_registry).caller_of(b"", 0.0)
    asked = {asked: priority_of(caller, asked) for asked in (None, "high", "normal", "low")}
    assert asked == {None: "normal", "high": "normal", "normal": "normal", "low": "low"}
    with pytest.raises(InvalidRequest, match="high, normal, low; got 'urgent'"):
        priority_of(caller, "urgent")


def test_a_key_comes_in_either_header() -> None:
    assert credential_of(None, b"sk-lorry-1", None) == b"Bearer sk-lorry-1"
    assert credential_of(None, None, b"sk-lorry-1") == b"Bearer sk-lorry-1"
    assert credential_of(None, b"sk-lorry-1", b"sk-lorry-2") == b"Bearer sk-lorry-1"
    assert credential_of(b"Bearer sk-lorry-1", b"sk-lorry-2", b"sk-lorry-3") == b"Bearer sk-lorry-1"
    assert credential_of(None, None, None) == b""
