"""Calls of pools by Serve's handles, whose queue is what makes Serve start the first replica of a deployment."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle, DeploymentResponse

from gateway.errors import EngineUnavailable

log = logging.getLogger(__name__)

_OTHERS: Final = ("gateway", "controller")
"""Applications that have no pools, though a pool may have the name of their deployment."""


class ServeCalls:
    """`gateway.pools.waking.PoolCalls` on the Serve of this process' cluster."""

    def __init__(self) -> None:
        self._handles: dict[str, DeploymentHandle] = {}
        self._under_way: dict[str, asyncio.Task[None]] = {}
        """A call lasts until Serve has a replica for it, which may be long where no node has room."""

    async def call(self, pool: str) -> None:
        """Call *pool* unless a call is under way; `EngineUnavailable` where no deployment has its name."""
        if pool in self._under_way:
            return
        try:
            if pool not in self._handles:
                self._handles[pool] = await asyncio.to_thread(_handle_of, pool)
            response = self._handles[pool].wake.remote()
        except (RayError, RayServeException) as exc:
            self._handles.pop(pool, None)
            raise EngineUnavailable(f"pool {pool!r} cannot be called: {exc}") from exc
        self._under_way[pool] = asyncio.create_task(self._follow(pool, response))

    async def _follow(self, pool: str, response: DeploymentResponse[None]) -> None:
        try:
            await response
        except (RayError, RayServeException) as exc:
            self._handles.pop(pool, None)
            log.warning("the call of a pool has failed", extra={"pool": pool, "error": str(exc)})
        finally:
            del self._under_way[pool]


def _handle_of(pool: str) -> DeploymentHandle:
    applications = serve.status().applications
    for name, about in applications.items():
        if pool in about.deployments and name not in _OTHERS:
            return serve.get_deployment_handle(pool, app_name=name)
    raise EngineUnavailable(f"no application on the cluster has a pool {pool!r}; there are: {', '.join(applications)}")
