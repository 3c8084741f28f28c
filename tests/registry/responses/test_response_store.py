"""Stored responses: chains of turns, which belong to a tenant, within bounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from registry.database import Registry, open_registry
from registry.errors import NotFound, NotStorable
from registry.responses.types import StoredResponse
from registry.settings import RegistrySettings
from tests.clock import Clock

Open = Callable[..., Registry]


@pytest.fixture
def opened(settings: RegistrySettings, clock: Clock) -> Iterator[Open]:
    """Opens the registry with further settings."""
    registries: list[Registry] = []

    def open_with(**knobs: Any) -> Registry:
        registries.append(open_registry(settings.model_copy(update=knobs), clock, clock.steady))
        return registries[-1]

    yield open_with
    for registry in registries:
        registry.close()


def response(name: str, previous: str | None = None, text: str = "yes") -> StoredResponse:
    body = {"id": name, "output": [{"id": f"msg_{name}", "text": text}]}
    items = ({"id": f"in_{name}", "text": "a NUL \0 and half a \u20ac"},)
    return StoredResponse(id=name, previous=previous, body=body, input_items=items, created_at=1.0)


def test_a_response_comes_back_as_it_was_stored_for_its_tenant_alone(opened: Open) -> None:
    store = opened().responses
    store.add(response("a"), "mine")
    assert store.get("mine", "a") == response("a")
    assert store.those_of("mine", {"a", "b"}) == {"a": response("a")}
    assert store.those_of("theirs", {"a"}) == {}
    for ask in (store.get, store.chain, store.delete):
        with pytest.raises(NotFound):
            ask("theirs", "a")
    store.delete("mine", "a")
    with pytest.raises(NotFound):
        store.get("mine", "a")


def test_the_chain_of_a_branch_has_its_own_turns_alone(opened: Open) -> None:
    store = opened().responses
    for name, previous in (("a", None), ("b", "a"), ("c", "b"), ("other", "a")):
        store.add(response(name, previous), "mine")
    assert [each.id for each in store.chain("mine", "c")] == ["a", "b", "c"]
    assert [each.id for each in store.chain("mine", "other")] == ["a", "other"]
    store.delete("mine", "b")
    with pytest.raises(NotFound, match="b"):
        store.chain("mine", "c")
    store.add(response("d", "c"), "mine")  # was asked for before the deletion
    assert store.get("mine", "d").previous == "c"


def test_a_tenant_has_so_many_and_those_used_least_lately_go_first(opened: Open, clock: Clock) -> None:
    store = opened(responses_per_tenant=3).responses
    store.add(response("theirs"), "theirs")
    for name, previous in (("a", None), ("b", None), ("c", None), ("a2", "a")):
        clock.advance(1.0)
        store.add(response(name, previous), "mine")
    assert [each.id for each in store.chain("mine", "a2")] == ["a", "a2"]
    assert store.those_of("mine", {"a", "b", "c", "a2"}).keys() == {"a", "c", "a2"}
    assert store.get("theirs", "theirs").id == "theirs"


def test_a_tenant_has_so_many_bytes(opened: Open, clock: Clock) -> None:
    store = opened(response_bytes_per_tenant=400).responses
    for name in ("a", "b", "c", "d", "e"):
        clock.advance(1.0)
        store.add(response(name), "mine")
    kept = store.those_of("mine", {"a", "b", "c", "d", "e"}).keys()
    assert "e" in kept
    assert "a" not in kept
    with pytest.raises(NotStorable, match="a tenant may store"):
        store.add(response("large", text="".join(map(str, range(1000)))), "mine")
    assert store.those_of("mine", kept).keys() == kept


def test_what_nobody_used_for_days_is_removed_with_the_other_housekeeping(opened: Open, clock: Clock) -> None:
    registry = opened(response_days=2.0)
    store = registry.responses
    store.add(response("a"), "mine")
    store.add(response("b"), "mine")
    clock.advance(1.5 * 86400)
    store.add(response("a2", "a"), "mine")
    clock.advance(1.0 * 86400)
    registry.remove_expired()
    assert store.those_of("mine", {"a", "b", "a2"}).keys() == {"a", "a2"}
    clock.advance(1.5 * 86400)
    assert store.forget_old() == 2
