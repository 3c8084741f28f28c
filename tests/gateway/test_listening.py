"""The gateway's port: shared among its replicas, free again at once, and never taken from a stranger."""

from __future__ import annotations

import socket

import pytest

from gateway.errors import StartFailed
from gateway.listening import check_port, listen

HOST = "127.0.0.1"


def free_port() -> int:
    with socket.create_server((HOST, 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def test_replicas_share_the_port_and_a_second_lorry_is_refused() -> None:
    port = free_port()
    with listen(HOST, port), listen(HOST, port), pytest.raises(StartFailed, match=f"port {port}"):
        check_port(HOST, port)


def test_a_client_that_lingers_does_not_keep_the_next_start_out() -> None:
    port = free_port()
    with listen(HOST, port) as listener, socket.create_connection((HOST, port)) as client:
        accepted, _ = listener.accept()
        accepted.close()
        listener.close()
        check_port(HOST, port)
        client.close()
