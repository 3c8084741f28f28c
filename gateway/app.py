"""Building a gateway from its parts, and its ASGI application."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from engines.hardware.probe import read_machine
from engines.loops import Loops
from engines.network.cluster_secret import NO_SECRET, ClusterSecret
from gateway.arenas import share_arenas
from gateway.balancing.admission import Admission
from gateway.balancing.balancing import Balancer
from gateway.balancing.cold_starts import ColdStarts
from gateway.balancing.demand import RevisionDemand
from gateway.balancing.replica_health import ReplicaHealth, policy_of
from gateway.balancing.retry_budget import RetryBudget
from gateway.batches.runner import BatchRunner
from gateway.dialects.catalog import dialects_of
from gateway.edge.edge import Edge, Swept
from gateway.edge.parts import Gateway
from gateway.endpoints import ROUTERS, routes
from gateway.errors import HTTP_ERRORS
from gateway.evaluations.runner import EvaluationRunner
from gateway.evidence.quiet_calls import QuietCalls
from gateway.evidence.shadow import Shadow
from gateway.evidence.tally_reporter import TallyReporter
from gateway.foreign_pages import PageGuard
from gateway.http.anthropic_answers import AnthropicAnswers
from gateway.http.authentication import Authentication
from gateway.http.cors import Cors
from gateway.http.description.docs_page import ApiDocuments
from gateway.http.error_answers import (
    answer_departed,
    answer_error,
    answer_http,
    answer_invalid,
    answer_os_error,
    answer_unforeseen,
)
from gateway.http.methods import Methods, MethodTable
from gateway.http.packed_bodies import PackedBodies
from gateway.http.request_bodies import RequestBodies
from gateway.http.request_ids import RequestIds
from gateway.keys.keyring import Keyring
from gateway.keys.limits import RateLimiter
from gateway.origins import AllowedOrigins
from gateway.own_machine import OwnMachine
from gateway.reports.runner import ReportRunner
from gateway.routing.route_feed import RouteFeed
from gateway.routing.routing import Offers
from gateway.settings import GatewaySettings, TraceSettings
from gateway.telemetry.access_log import AccessLog
from gateway.telemetry.finished import FinishedListener
from gateway.telemetry.live_metrics import LiveMetrics
from gateway.telemetry.loop_metrics import LoopMetrics
from gateway.telemetry.metrics import GatewayMetrics
from gateway.telemetry.replica_metrics import ReplicaMetrics
from gateway.telemetry.siblings import Siblings
from gateway.telemetry.traces import Traces, open_traces
from gateway.wire.engine_connections import EngineConnections
from graders.runs import GraderRuns
from registry.database import Registry
from registry.errors import RegistryError
from registry.liveness.host_name import host_name

log = logging.getLogger(__name__)

_THREADS: Final = 32
"""For calls that block. By default there are six on two processors, and five in an actor: the gateway's own loops would
take all of them while a registry that vanished lets each wait."""

_REPORTS_EVERY: Final = 16
"""Files without a report are looked for so many times less often than routes are read: once in 4 s by default."""


def build_gateway(
    settings: GatewaySettings,
    registry: Registry,
    home: Path | None = None,
    traces: TraceSettings | None = None,
    secret: ClusterSecret = NO_SECRET,
) -> Gateway:
    """Build a gateway's parts; nothing runs yet. Without a *home* there is no access log and no sibling process."""
    name = f"{host_name(home)}-gateway-{token_hex(3)}"
    metrics = GatewayMetrics(settings.metric_names)
    feed = RouteFeed(registry, settings)
    tally_reporter = TallyReporter(registry, metrics.rollouts, settings)
    keyring = _keyring(registry, settings)
    health = ReplicaHealth(policy_of(settings))
    balancer = Balancer(health, settings.load_bound)
    demand = RevisionDemand(registry, balancer, settings.use_report_s)
    admission = Admission(settings.queue_limit)
    connections = EngineConnections(settings.connect_timeout_s, secret)
    origins = AllowedOrigins(settings.cors_origins)
    metrics.show(live := LiveMetrics(feed, balancer, health, admission), ReplicaMetrics(lambda: feed.latest))
    loops = Loops()
    metrics.show_background(LoopMetrics(loops, lambda: keyring.read_at), home, registry.artifacts)
    tracing = open_traces(traces or TraceSettings(), name, lambda: feed.table)
    access_log = _access_log(settings, home)
    budget = RetryBudget(settings.retry_share, settings.retry_floor_per_s)
    swept = Swept(feed=feed, admission=admission, health=health, budget=budget, connections=connections)
    edge = Edge(swept, origins, _listeners(metrics, tracing, access_log))
    return Gateway(
        settings=settings,
        home=home,
        registry=registry,
        feed=feed,
        offers=Offers(),
        dialects=dialects_of(settings),
        demand=demand,
        cold_starts=ColdStarts(demand),
        keyring=keyring,
        page_guard=PageGuard(settings.allowed_hosts, origins, socket.gethostname()),
        rate_limiter=RateLimiter(metrics, settings.limits_url),
        admission=admission,
        balancer=balancer,
        health=health,
        budget=budget,
        connections=connections,
        edge=edge,
        tally_reporter=tally_reporter,
        loops=loops,
        shadow=Shadow(QuietCalls(connections, balancer, settings), feed, tally_reporter, settings),
        metrics=metrics,
        siblings=Siblings(
            None if home is None else home / "run" / "gateways",
            name,
            partial(_figures, live, metrics, edge, feed),
            settings.metrics_wait_s,
        ),
        traces=tracing,
        access_log=access_log,
        grader_runs=GraderRuns(),
        own_machine=OwnMachine(read_machine),
    )


def _keyring(registry: Registry, settings: GatewaySettings) -> Keyring:
    return Keyring(
        registry,
        refresh_s=settings.route_refresh_s,
        report_s=settings.use_report_s,
        is_loopback=settings.is_loopback,
    )


def _listeners(metrics: GatewayMetrics, traces: Traces, access_log: AccessLog | None) -> list[FinishedListener]:
    listeners: list[FinishedListener] = [metrics.finished]
    if traces.begins_spans:
        listeners.append(traces)
    return listeners if access_log is None else [*listeners, access_log]


def _access_log(settings: GatewaySettings, home: Path | None) -> AccessLog | None:
    if home is None or settings.access_log_share == 0.0:
        return None
    return AccessLog(home / "logs" / "access.log", settings.access_log_share)


async def _figures(live: LiveMetrics, metrics: GatewayMetrics, edge: Edge, feed: RouteFeed) -> str:
    """Return this process's metrics as text."""
    live.look()
    edge.report()
    return await asyncio.to_thread(metrics.own, feed.table.knows)


def _start_loops(gateway: Gateway) -> None:
    loops = gateway.loops
    loops.start("routes", gateway.feed.run)
    loops.start("keys", gateway.keyring.run)
    loops.start("use_of_keys", gateway.keyring.report_use)
    loops.start("use_of_revisions", gateway.demand.run)
    loops.start("cold_starts", gateway.cold_starts.run)
    loops.start("tallies", partial(gateway.tally_reporter.run, gateway.feed.watched))
    loops.start("deadlines", gateway.edge.run)
    if gateway.rate_limiter.is_shared:
        loops.start("shared_limits", gateway.rate_limiter.run)
    if gateway.access_log is not None:
        loops.start("access_log", gateway.access_log.run)


def build_app(gateway: Gateway) -> FastAPI:
    """Build the application; its lifespan runs the gateway's loops, and reports and closes everything at the end."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        share_arenas()
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS))
        with contextlib.suppress(RegistryError):  # the loops read again
            await gateway.keyring.refresh()
            await gateway.feed.refresh()
        try:
            await gateway.siblings.start()
        # Without its socket a gateway serves as well; only its figures are missing where others are scraped.
        except OSError:
            log.exception("the other gateways cannot read the figures of this one")
        _start_loops(gateway)
        batch_runner = BatchRunner(gateway)
        gateway.loops.start("batches", batch_runner.run)
        evaluation_runner = EvaluationRunner(gateway)
        gateway.loops.start("evaluations", evaluation_runner.run)
        report_runner = ReportRunner(gateway.registry, _REPORTS_EVERY * gateway.settings.route_refresh_s)
        gateway.loops.start("reports", report_runner.run)
        yield
        gateway.loops.cancel()
        await batch_runner.aclose()
        await evaluation_runner.aclose()
        await report_runner.aclose()
        gateway.edge.close()
        await gateway.rate_limiter.aclose()
        await gateway.shadow.aclose()
        await gateway.siblings.aclose()
        if gateway.access_log is not None:
            await gateway.access_log.flush()
        await asyncio.to_thread(gateway.traces.close)
        with contextlib.suppress(RegistryError):  # the last counts are lost
            await asyncio.gather(gateway.keyring.store_use(), gateway.tally_reporter.flush())

    # `docs_page` has the description of all paths, those before this application too.
    app = FastAPI(openapi_url=None, lifespan=lifespan, redirect_slashes=False)
    app.state.gateway = gateway
    app.state.api_documents = ApiDocuments(app)
    app.router.routes.extend(routes())
    app.add_middleware(RequestBodies, settings=gateway.settings)
    app.add_middleware(PackedBodies, settings=gateway.settings)  # outside of what looks at bodies
    app.add_middleware(Authentication, gateway=gateway)
    app.add_middleware(Methods, table=MethodTable(ROUTERS))
    if gateway.settings.cors_origins:
        app.add_middleware(Cors, origins=gateway.settings.cors_origins)
    app.add_middleware(AnthropicAnswers)
    app.add_middleware(RequestIds)
    for kind in HTTP_ERRORS:
        app.add_exception_handler(kind, answer_error)
    app.add_exception_handler(RequestValidationError, answer_invalid)
    app.add_exception_handler(HTTPException, answer_http)
    app.add_exception_handler(OSError, answer_os_error)
    app.add_exception_handler(ClientDisconnect, answer_departed)
    app.add_exception_handler(Exception, answer_unforeseen)
    return app
