"""The gateway's port is shared among its replicas, free again at once, and never taken from another program."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, ip_address

import pytest

from gateway.errors import StartFailed
from gateway.up.listening import addresses_of, check_keys, check_port, listen, url_of
from registry.database import Registry
from registry.keys import KeyDraft, Scope

HOST = IPv4Address("127.0.0.1")


def free_port() -> int:
    with socket.create_server((str(HOST), 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def test_replicas_share_the_port_and_a_second_lorry_is_refused() -> None:
    port = free_port()
    with listen(HOST, port), listen(HOST, port), pytest.raises(StartFailed, match=f"port {port}"):
        check_port(HOST, port)


def test_localhost_is_served_at_both_of_its_addresses() -> None:
    port = free_port()
    both = (HOST, ip_address("::1"))
    assert addresses_of(HOST) == both
    assert set(addresses_of(ip_address("::1"))) == set(both)
    assert addresses_of(ip_address("0.0.0.0"))[1:] == both[1:]
    assert addresses_of(ip_address("10.0.0.7")) == (ip_address("10.0.0.7"),)
    with listen(both[1], port), pytest.raises(StartFailed, match=f"port {port} on ::1"):
        check_port(HOST, port)


def test_a_client_that_lingers_does_not_keep_the_next_start_out() -> None:
    port = free_port()
    with listen(HOST, port) as listener, socket.create_connection((str(HOST), port)) as client:
        accepted, _ = listener.accept()
        accepted.close()
        listener.close()
        check_port(HOST, port)
        client.close()


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.7", "::"])
def test_others_than_this_machine_are_served_only_once_there_is_a_key(sqlite_registry: Registry, host: str) -> None:
    for loopback in ("127.0.0.1", "127.0.0.9", "::1"):
        check_keys(ip_address(loopback), sqlite_registry)
    with pytest.raises(StartFailed, match=r"lorry keys create --home --name NAME"):
        check_keys(ip_address(host), sqlite_registry)
    sqlite_registry.keys.create(KeyDraft(name="root", scopes=frozenset(Scope)), actor="ann")
    check_keys(ip_address(host), sqlite_registry)


def test_this_machine_reaches_an_address_that_stands_for_all() -> None:
    urls = {host: url_of(ip_address(host), 80) for host in ("0.0.0.0", "::", "::1", "10.0.0.7")}
    assert urls == {
        "0.0.0.0": "http://127.0.0.1:80",
        "::": "http://[::1]:80",
        "::1": "http://[::1]:80",
        "10.0.0.7": "http://10.0.0.7:80",
    }
