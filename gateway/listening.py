"""The gateway's port: shared among its replicas, refused to a second Lorry."""

from __future__ import annotations

import socket

from gateway.errors import StartFailed


def check_port(host: str, port: int) -> None:
    """Raise `StartFailed` if the port cannot be listened on."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as exc:
            raise StartFailed(
                f"port {port} on {host} cannot be used ({exc.strerror}); stop what listens there or give another: "
                f"lorry up --port {port + 1}"
            ) from exc


def listen(host: str, port: int) -> socket.socket:
    """A listening socket on a port that other gateway replicas share. `OSError` if a stranger has it."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    # REUSEADDR too, inherited by what is accepted: clients that linger after a stop must not keep the next start out
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind((host, port))
    listener.listen(1024)
    return listener
