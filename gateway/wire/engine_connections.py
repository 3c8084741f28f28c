"""The pools of connections of all engines."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection
from typing import Final

from engines.address import shown_address
from engines.errors import ClusterSecretMissing
from engines.network.cluster_secret import NO_SECRET, ClusterSecret
from gateway.wire.connections import EnginePool

log = logging.getLogger(__name__)

_IDLE_S: Final = 60.0
"""A connection that was not used for so long is closed."""


class EngineConnections(dict[str, EnginePool]):
    """The pools of all engines by address, `http://host:port` as the registry carries it; asking for one makes it."""

    def __init__(self, connect_timeout_s: float, secret: ClusterSecret = NO_SECRET) -> None:
        """*secret* makes the keys of addresses that have none."""
        super().__init__()
        self._connect_timeout_s = connect_timeout_s
        self._secret = secret

    def __missing__(self, url: str) -> EnginePool:
        pool = self[url] = self._new_pool(url)
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
        for url, pool in list(self.items()):
            if url in urls:
                pool.close_idle(now - _IDLE_S)
            else:
                self.pop(url).retire()

    def close(self) -> None:
        """Close all idle connections."""
        self.tidy((), math.inf)
