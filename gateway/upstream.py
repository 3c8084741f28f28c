"""Sending a request to an engine: choose, connect, fail over before the first byte, count, pass bytes through."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx2
import orjson

from engines.catalog import adapter_fields
from gateway.balancing import Balancer, affinity_of
from gateway.demand import Demand
from gateway.errors import EngineUnavailable
from gateway.metrics import GatewayMetrics
from gateway.replica_health import ReplicaHealth, policy_of
from gateway.route_feed import RouteFeed
from gateway.routing import Endpoint, RouteTable
from gateway.settings import GatewaySettings

log = logging.getLogger(__name__)

_RETRIED_STATUS = 503
_PREFIX_BYTES = 1024
"""So much of a prompt says which requests should meet the same prefix cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamRequest:
    """A request for *served_name*; each engine gets the body with its own way to say so."""

    path: str
    served_name: str
    body: Mapping[str, Any]
    request_id: str


class UpstreamAnswer:
    """An engine's answer whose head has come; `chunks` passes the body on and must be run or `close` awaited."""

    def __init__(self, endpoint: Endpoint, response: httpx2.Response, release: _Release) -> None:
        self.endpoint = endpoint
        self.response = response
        self._release = release

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body's bytes as they come; `EngineUnavailable` if the engine fails on the way."""
        try:
            async for chunk in self.response.aiter_raw():
                yield chunk
        except httpx2.TransportError as exc:
            self._release.failed()
            raise EngineUnavailable(f"replica {self.endpoint.replica} failed while answering") from exc
        finally:
            self._release.done()

    async def close(self) -> None:
        """Give the connection back; an unfinished answer is cut off, which makes the engine stop generating."""
        self._release.done()
        await self.response.aclose()


class _Release:
    """Takes one request out of the in-flight count, once."""

    def __init__(self, pool: Upstream, replica: str, served_name: str) -> None:
        self._pool = pool
        self._replica = replica
        self._served_name = served_name
        self._open = True

    def failed(self) -> None:
        self._pool.failed(self._replica)

    def done(self) -> None:
        if self._open:
            self._open = False
            self._pool.leave(self._replica, self._served_name)


class Upstream:
    """Our connections to all engines, and how many requests each has of us."""

    def __init__(self, feed: RouteFeed, settings: GatewaySettings, metrics: GatewayMetrics, demand: Demand) -> None:
        self._feed = feed
        self._demand = demand
        self._settings = settings
        self._metrics = metrics
        self._health = ReplicaHealth(policy_of(settings))
        self._balancer = Balancer(self._health, settings.load_bound)
        self._seen: RouteTable | None = None
        timeout = httpx2.Timeout(settings.idle_timeout_s, connect=settings.connect_timeout_s)
        self._client = httpx2.AsyncClient(
            timeout=timeout, limits=httpx2.Limits(max_connections=None, max_keepalive_connections=64), trust_env=False
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def send(self, request: UpstreamRequest, on_failure: Callable[[str], None]) -> UpstreamAnswer:
        """The answer of a replica that serves the name, trying others while none has sent a byte.

        *on_failure* hears of each replica that failed. `EngineUnavailable` when none is found within `replica_wait_s`.
        """
        deadline = time.monotonic() + self._settings.replica_wait_s
        affinity = affinity_of(request.served_name, _prompt_of(request.body)[:_PREFIX_BYTES])
        failed: set[str] = set()
        while True:
            left_s = deadline - time.monotonic()
            table = self._feed.table
            if request.served_name in table.pinned and not table.endpoints_of(request.served_name):
                await self._demand.ask_for(request.served_name)
            endpoints = await self._feed.wait_for_endpoints(request.served_name, max(left_s, 0.01))
            self._look_at(self._feed.table)
            endpoint = self._balancer.choose(endpoints, affinity, failed, time.monotonic())
            if endpoint is not None:
                if answer := await self.send_to(endpoint, request):
                    return answer
                failed.add(endpoint.replica)
                on_failure(endpoint.replica)
            if time.monotonic() >= deadline:
                raise EngineUnavailable(f"no replica answered for {request.served_name!r}", retry_after_s=2)
            self._metrics.retries.inc()
            await self._feed.refresh()

    async def send_to(self, endpoint: Endpoint, request: UpstreamRequest) -> UpstreamAnswer | None:
        """The answer of this replica, or None if it failed before its first byte and another may be tried."""
        self._balancer.begin(endpoint.replica)
        self._metrics.in_flight.labels(endpoint.replica).inc()
        self._demand.begin(request.served_name)
        release = _Release(self, endpoint.replica, request.served_name)
        keep = False
        sent_at = time.monotonic()
        try:
            response = await self._client.send(self._build(endpoint, request), stream=True)
            keep = response.status_code != _RETRIED_STATUS
            if not keep:
                self._health.failed(endpoint.replica, time.monotonic())
                await response.aclose()
                return None
            self._health.answered(endpoint.replica, time.monotonic() - sent_at, time.monotonic())
            return UpstreamAnswer(endpoint, response, release)
        except httpx2.TransportError as exc:
            self._health.failed(endpoint.replica, time.monotonic())
            log.warning("replica failed", extra={"replica": endpoint.replica, "error": repr(exc)})
            return None
        finally:
            if not keep:
                release.done()

    def _build(self, endpoint: Endpoint, request: UpstreamRequest) -> httpx2.Request:
        headers = {"content-type": "application/json", "x-request-id": request.request_id}
        content = orjson.dumps({**request.body, **_address(endpoint, request.served_name)})
        return self._client.build_request("POST", endpoint.url + request.path, content=content, headers=headers)

    def in_flight(self, replica: str) -> int:
        """How many requests *replica* has of us."""
        return self._balancer.in_flight(replica)

    def failed(self, replica: str) -> None:
        """*replica* failed while it answered."""
        self._health.failed(replica, time.monotonic())

    def leave(self, replica: str, served_name: str) -> None:
        """One request less in flight."""
        self._demand.end(served_name)
        self._balancer.end(replica)
        self._metrics.in_flight.labels(replica).dec()

    def _look_at(self, table: RouteTable) -> None:
        """Tell who came and who left, once for each table."""
        if table is not self._seen:
            self._seen = table
            self._health.appeared(table.endpoints, time.monotonic())


def _prompt_of(body: Mapping[str, Any]) -> bytes:
    return orjson.dumps(body.get("messages") or body.get("prompt"))


def _address(endpoint: Endpoint, served_name: str) -> Mapping[str, str]:
    """The fields by which the endpoint's engine knows whose answer is wanted."""
    return {"model": served_name} if served_name == endpoint.base else adapter_fields(endpoint.engine, served_name)
