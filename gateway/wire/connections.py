"""The connections to each engine: kept open between requests, and closed when they were idle for long."""

from __future__ import annotations

import asyncio
import logging
import math
import ssl
import time
from collections import deque
from collections.abc import Callable, Collection
from typing import Final
from urllib.parse import urlsplit

from engines.address import authorization_of, shown_address
from engines.errors import ClusterSecretMissing
from engines.network.cluster_secret import NO_SECRET, ClusterSecret
from gateway.wire.dead_hosts import notice_dead_host
from gateway.wire.engine_connection import EngineConnection

log = logging.getLogger(__name__)

_IDLE_S: Final = 60.0
"""A connection that was not used for so long is closed."""


class EnginePool:
    """The connections to one engine."""

    def __init__(self, url: str, connect_timeout_s: float, *, has_key: bool = True) -> None:
        """Without the key that the engine wants, no connection is made."""
        self._has_key = has_key
        parts = urlsplit(url)
        is_secret = parts.scheme == "https"
        self._address = (parts.hostname or "", parts.port or (443 if is_secret else 80))
        self._ssl = ssl.create_default_context() if is_secret else None
        self._connect_timeout_s = connect_timeout_s
        self._free: deque[EngineConnection] = deque()
        self._host = parts.netloc.rpartition("@")[2].encode()
        self._lines = b"".join(b"%b: %b\r\n" % (k.encode(), v.encode()) for k, v in authorization_of(url).items())
        """Header lines of every request: how the engine knows us."""
        self._is_retired = False

    def post(self, path: str, lines: bytes, body: bytes) -> bytes:
        """Return a whole POST to this engine, with header *lines* of ours."""
        return b"POST %b HTTP/1.1\r\nhost: %b\r\n%bcontent-length: %d\r\n\r\n%b" % (
            path.encode(),
            self._host,
            self._lines + lines,
            len(body),
            body,
        )

    def get(self, path: str) -> bytes:
        """Return a whole GET to this engine."""
        return b"GET %b HTTP/1.1\r\nhost: %b\r\n%b\r\n" % (path.encode(), self._host, self._lines)

    def pop_free(self) -> EngineConnection | None:
        """Return a connection that is open and free, the one used last first; None if a new one has to be opened."""
        while self._free:
            connection = self._free.pop()
            if connection.is_usable:
                return connection
        return None

    def open(self, then: Callable[[EngineConnection | None], None]) -> asyncio.Task[None]:
        """Open a connection and call *then* with it, or with None if the engine cannot be reached; may be cancelled."""
        return asyncio.create_task(self._open(then))

    async def _open(self, then: Callable[[EngineConnection | None], None]) -> None:
        then(await self.connect())

    async def connect(self) -> EngineConnection | None:
        """Return a new connection, None if the engine cannot be reached or would refuse us."""
        if not self._has_key:
            return None
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                link, opened = await loop.create_connection(
                    lambda: EngineConnection(self), *self._address, ssl=self._ssl
                )
            notice_dead_host(link)
        # A ValueError is of a host that is no name: an engine that was entered by hand may have any.
        except (OSError, TimeoutError, ValueError):
            return None
        return opened

    def give_back(self, connection: EngineConnection) -> None:
        """Keep a connection that is free again."""
        if self._is_retired:
            connection.close()
            return
        connection.idle_since = time.monotonic()
        self._free.append(connection)

    def retire(self) -> None:
        """Close the free connections, and each of the others when its answer is whole: the engine has gone."""
        self._is_retired = True
        self.close_idle(math.inf)

    def forget(self, connection: EngineConnection) -> None:
        """Drop a connection that has ended."""
        if connection in self._free:
            self._free.remove(connection)

    def close_idle(self, before: float) -> None:
        """Close the connections that were not used since *before*."""
        # `pop_free` uses the right end, so the left end has been idle for longest.
        while self._free and self._free[0].idle_since < before:
            self._free.popleft().close()


class EngineConnections:
    """The pools of all engines, by their address."""

    def __init__(self, connect_timeout_s: float, secret: ClusterSecret = NO_SECRET) -> None:
        """*secret* makes the keys of addresses that have none."""
        self._connect_timeout_s = connect_timeout_s
        self._secret = secret
        self._pools: dict[str, EnginePool] = {}

    def of(self, url: str) -> EnginePool:
        """Return the pool of the engine at *url* (`http://host:port`), as the registry carries it."""
        pool = self._pools.get(url)
        if pool is None:
            pool = self._pools[url] = self._new_pool(url)
        return pool

    def _new_pool(self, url: str) -> EnginePool:
        try:
            return EnginePool(self._secret.opened(url), self._connect_timeout_s)
        except ClusterSecretMissing as exc:
            # Requests go to engines that can be used, as if this one could not be reached.
            log.error("an engine cannot be used", extra={"engine": shown_address(url), "error": str(exc)})
            return EnginePool(url, self._connect_timeout_s, has_key=False)

    def tidy(self, urls: Collection[str], now: float) -> None:
        """Close connections that were idle for long, and all idle ones of engines that are not among *urls*."""
        for url, pool in list(self._pools.items()):
            if url in urls:
                pool.close_idle(now - _IDLE_S)
            else:
                self._pools.pop(url).retire()

    def close(self) -> None:
        """Close all idle connections."""
        self.tidy((), math.inf)
