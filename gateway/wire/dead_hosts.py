"""Connections to hosts that lose power or network: they send no word of it, and a reader would wait for its timeout."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Final

_SILENT_S: Final = 10
"""How long an engine's host may leave our packets without an acknowledgement. The engine itself may be busy."""
_PROBE_EVERY_S: Final = 2


def notice_dead_host(transport: asyncio.BaseTransport) -> None:
    """Let the system end the connection of *transport* once the other host has acknowledged nothing for 10 s."""
    connection: socket.socket = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _PROBE_EVERY_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _PROBE_EVERY_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _SILENT_S // _PROBE_EVERY_S)
    # The probes are for a connection that waits; this is for a request that was sent and not acknowledged.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * _SILENT_S)


def is_dead_host(exc: Exception | None) -> bool:
    """Whether a connection was lost by *exc* because its host was silent: other connections there are no better."""
    return isinstance(exc, OSError) and exc.errno in (errno.ETIMEDOUT, errno.EHOSTUNREACH)
