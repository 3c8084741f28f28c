"""Builds the gateway's ASGI application from its parts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from gateway import health
from gateway.admin import adapters as admin_adapters
from gateway.admin import audit as admin_audit
from gateway.admin import feedback as admin_feedback
from gateway.admin import forced as admin_forced
from gateway.admin import jobs as admin_jobs
from gateway.admin import keys as admin_keys
from gateway.admin import observations as admin_observations
from gateway.admin import replicas as admin_replicas
from gateway.admin import rollouts as admin_rollouts
from gateway.auth import Keyring
from gateway.authentication import Authentication
from gateway.demand import Demand
from gateway.deps import Gateway
from gateway.error_answers import answer_error, answer_http, answer_invalid, answer_unforeseen
from gateway.errors import HTTP_ERRORS
from gateway.limits import Limits
from gateway.metrics import GatewayMetrics
from gateway.observations import Observations
from gateway.openai import feedback, files, fine_tuning, models, relay
from gateway.request_ids import RequestIds
from gateway.route_feed import RouteFeed
from gateway.settings import GatewaySettings
from gateway.shadow import Shadow
from gateway.upstream import Upstream
from registry.database import Registry
from registry.errors import RegistryError

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
    admin_keys.router,
    admin_audit.router,
    health.router,
)


def build_gateway(settings: GatewaySettings, registry: Registry) -> Gateway:
    """A gateway's parts; nothing runs yet."""
    metrics = GatewayMetrics()
    feed = RouteFeed(registry, metrics, settings)
    demand = Demand(registry, settings.use_report_s)
    upstream = Upstream(feed, settings, metrics, demand)
    observations = Observations(registry, metrics.rollouts, settings)
    keyring = Keyring(
        registry,
        refresh_s=settings.route_refresh_s,
        report_s=settings.use_report_s,
        is_loopback=settings.is_loopback,
    )
    return Gateway(
        settings=settings,
        registry=registry,
        feed=feed,
        keyring=keyring,
        limits=Limits(metrics, settings.limits_url),
        upstream=upstream,
        observations=observations,
        shadow=Shadow(upstream, feed, observations, settings),
        demand=demand,
        metrics=metrics,
    )


def build_app(gateway: Gateway) -> FastAPI:
    """The application; its lifespan keeps the route table fresh, tells what was counted, and closes the connections."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with contextlib.suppress(RegistryError):  # then the first reading is one of the loop's
            await gateway.keyring.refresh()
            await gateway.feed.refresh()
        running = [
            asyncio.create_task(gateway.keyring.run()),
            asyncio.create_task(gateway.limits.run()),
            asyncio.create_task(gateway.feed.run()),
            asyncio.create_task(gateway.demand.run()),
            asyncio.create_task(gateway.observations.run(gateway.feed.watched)),
        ]
        yield
        for loop in running:
            loop.cancel()
        await gateway.limits.aclose()
        await gateway.shadow.aclose()
        await gateway.upstream.aclose()
        with contextlib.suppress(RegistryError):  # then what was counted last is lost
            await gateway.observations.flush()

    app = FastAPI(title="Lorry", lifespan=lifespan)
    app.state.gateway = gateway
    for router in ROUTERS:
        app.include_router(router)
    app.add_middleware(Authentication, keyring=gateway.keyring, metrics_need_key=gateway.settings.metrics_need_key)
    app.add_middleware(RequestIds, metrics=gateway.metrics)
    for kind in HTTP_ERRORS:
        app.add_exception_handler(kind, answer_error)
    app.add_exception_handler(RequestValidationError, answer_invalid)
    app.add_exception_handler(HTTPException, answer_http)
    app.add_exception_handler(Exception, answer_unforeseen)
    return app
