"""Builds the gateway's ASGI application from its parts."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from secrets import token_hex

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from gateway import health
from gateway.access_log import AccessLog
from gateway.admin import adapters as admin_adapters
from gateway.admin import audit as admin_audit
from gateway.admin import feedback as admin_feedback
from gateway.admin import forced as admin_forced
from gateway.admin import jobs as admin_jobs
from gateway.admin import observations as admin_observations
from gateway.admin import replicas as admin_replicas
from gateway.admin import rollouts as admin_rollouts
from gateway.demand import Demand
from gateway.deps import Gateway
from gateway.errors import HTTP_ERRORS, GatewayError, envelope
from gateway.journal import host_prefix
from gateway.live_metrics import LiveMetrics
from gateway.metrics import GatewayMetrics
from gateway.observations import Observations
from gateway.openai import feedback, files, fine_tuning, models, relay
from gateway.openai.types import UNKNOWN_FIELD
from gateway.request_ids import RequestIds
from gateway.route_feed import RouteFeed
from gateway.settings import GatewaySettings, TraceSettings
from gateway.shadow import Shadow
from gateway.siblings import Siblings
from gateway.traces import open_traces
from gateway.upstream import Upstream
from registry.database import Registry
from registry.errors import RegistryError

log = logging.getLogger(__name__)

ROUTERS = (
    relay.router,
    models.router,
    files.router,
    fine_tuning.router,
    feedback.router,
    admin_adapters.router,
    admin_feedback.router,
    admin_forced.router,
    admin_rollouts.router,
    admin_observations.router,
    admin_jobs.router,
    admin_replicas.router,
    admin_audit.router,
    health.router,
)


def build_gateway(
    settings: GatewaySettings, registry: Registry, home: Path | None = None, traces: TraceSettings | None = None
) -> Gateway:
    """A gateway's parts; nothing runs yet. Without a *home* it writes no access log and has no siblings."""
    name = f"{host_prefix()}gateway-{token_hex(3)}"
    metrics = GatewayMetrics(settings.metric_names)
    feed = RouteFeed(registry, metrics, settings)
    demand = Demand(registry, settings.use_report_s)
    upstream = Upstream(feed, settings, demand)
    live = LiveMetrics(lambda: feed.table, upstream.in_flight, upstream.health)
    metrics.show(live)
    observations = Observations(registry, metrics.rollouts, settings)
    tracing = open_traces(traces or TraceSettings(), name, lambda: feed.table)

    async def figures() -> str:
        live.look()
        return await asyncio.to_thread(metrics.own, feed.table.knows)

    log_path = home / "logs" / "access.log" if home is not None and settings.access_log_share else None
    access_log = None if log_path is None else AccessLog(log_path, settings.access_log_share)
    return Gateway(
        settings=settings,
        registry=registry,
        feed=feed,
        upstream=upstream,
        observations=observations,
        shadow=Shadow(upstream, feed, observations, settings),
        demand=demand,
        metrics=metrics,
        siblings=Siblings(
            None if home is None else home / "run" / "gateways",
            name,
            figures,
            settings.metrics_wait_s,
        ),
        traces=tracing,
        access_log=access_log,
        listeners=(metrics.finished, tracing) if access_log is None else (metrics.finished, tracing, access_log),
    )


def build_app(gateway: Gateway) -> FastAPI:
    """The application; its lifespan keeps the route table fresh, tells what was counted, and closes the connections."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with contextlib.suppress(RegistryError):  # then the first reading is one of the loop's
            await gateway.feed.refresh()
        await gateway.siblings.start()
        running = [
            asyncio.create_task(gateway.feed.run()),
            asyncio.create_task(gateway.demand.run()),
            asyncio.create_task(gateway.observations.run(gateway.feed.watched)),
        ]
        if gateway.access_log is not None:
            running.append(asyncio.create_task(gateway.access_log.run()))
        yield
        for loop in running:
            loop.cancel()
        await gateway.siblings.aclose()
        if gateway.access_log is not None:
            await gateway.access_log.flush()
        await asyncio.to_thread(gateway.traces.close)
        await gateway.shadow.aclose()
        await gateway.upstream.aclose()
        with contextlib.suppress(RegistryError):  # then what was counted last is lost
            await gateway.observations.flush()

    app = FastAPI(title="Lorry", lifespan=lifespan)
    app.state.gateway = gateway
    for router in ROUTERS:
        app.include_router(router)
    app.add_middleware(RequestIds, traces=gateway.traces, listeners=gateway.listeners)
    for kind in HTTP_ERRORS:
        app.add_exception_handler(kind, _answer_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(Exception, _answer_unforeseen)
    return app


async def _answer_error(_: Request, exc: Exception) -> JSONResponse:
    status, code = next(HTTP_ERRORS[kind] for kind in type(exc).__mro__ if kind in HTTP_ERRORS)
    param, headers = None, {}
    if isinstance(exc, GatewayError):  # the one place where a field of our errors becomes a header
        param = exc.param
        headers = {"retry-after": str(exc.retry_after_s)} if exc.retry_after_s else {}
    return JSONResponse(envelope(status, code, str(exc), param), status, headers)


async def _answer_invalid(_: Request, exc: Exception) -> JSONResponse:
    assert isinstance(exc, RequestValidationError)  # noqa: S101 - registered for nothing else
    first = exc.errors()[0]
    where = [str(part) for part in first["loc"] if part not in ("body", "query", "path")]
    message = f"{'.'.join(where)}: {first['msg']}" if where else str(first["msg"])
    if first["type"] == UNKNOWN_FIELD:
        where.append(first["ctx"]["field"])
    field = ".".join(where)
    return JSONResponse(envelope(400, "invalid_request", message, field or None), 400)


async def _answer_http(_: Request, exc: Exception) -> JSONResponse:
    assert isinstance(exc, HTTPException)  # noqa: S101 - registered for nothing else
    code = {404: "unknown_url", 405: "method_not_allowed"}.get(exc.status_code)
    return JSONResponse(envelope(exc.status_code, code, str(exc.detail)), exc.status_code)


async def _answer_unforeseen(request: Request, exc: Exception) -> JSONResponse:
    log.error("unforeseen error", exc_info=exc, extra={"path": request.url.path})
    return JSONResponse(envelope(500, "internal_error", "internal error; the gateway's log has it"), 500)
