"""Whether the last replica of a pool that may sleep is still needed, as the replica itself finds out."""

from __future__ import annotations

import logging

from gateway.routing.sleeping import reasons_for, used_at
from registry.database import Registry
from registry.errors import RegistryError
from registry.liveness.sleeping_pools import SleepingPool

log = logging.getLogger(__name__)


class Wakefulness:
    """Looks in the registry for what needs a replica of one pool beside the requests in its engine."""

    def __init__(self, registry: Registry, pool: SleepingPool) -> None:
        self._registry = registry
        self._pool = pool
        self._used_at = 0.0

    def is_needed(self) -> bool:
        """Whether requests came since the last look, wait, or something is to be proven; blocks.

        True while the registry does not answer: a replica that is not known to be idle stays.
        """
        try:
            snapshot = self._registry.placement_snapshot(self._pool.base, self._pool.adapter_base)
            now = self._registry.transactions.now()
        except RegistryError as exc:
            log.warning("it is not known whether the pool is idle, it stays awake", extra={"error": str(exc)})
            return True
        # The time of the last use is compared with an earlier one of its kind, as the clocks of machines differ.
        before, self._used_at = self._used_at, used_at(snapshot, self._pool)
        reason = next(reasons_for(snapshot, self._pool, now), None)
        if reason is not None:
            log.debug("the pool stays awake", extra={"pool": self._pool.name, "reason": reason})
        return reason is not None or self._used_at > before
