"""A server's key travels in its address and is shown to nobody."""

from __future__ import annotations

from engines.address import authorization_of, key_of, keyed_address, shown_address
from gateway.wire.connections import EnginePool


def test_an_address_carries_its_key_and_is_shown_without_it() -> None:
    address = keyed_address("127.0.0.1", 8000, "a/b@c:d")
    assert key_of(address) == "a/b@c:d"
    assert authorization_of(address) == {"authorization": "Bearer a/b@c:d"}
    assert shown_address(address) == "http://127.0.0.1:8000" == keyed_address("127.0.0.1", 8000, "")
    assert authorization_of("http://[::1]:8000") == {}
    assert shown_address("https://engine.example") == "https://engine.example"


def test_a_gateway_sends_the_key_and_names_the_host_without_it() -> None:
    request = EnginePool(keyed_address("127.0.0.1", 8000, "k"), 1.0).get("/metrics")
    assert request == b"GET /metrics HTTP/1.1\r\nhost: 127.0.0.1:8000\r\nauthorization: Bearer k\r\n\r\n"
