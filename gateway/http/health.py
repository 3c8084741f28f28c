"""`/healthz`, `/readyz` and `/metrics`."""

from __future__ import annotations

import contextlib

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, Response

from gateway.deps import GatewayDep
from gateway.objects.operations import GatewayReadiness, Liveness
from gateway.telemetry.exposition import counted, merge
from registry.errors import RegistryError

router = APIRouter()


@router.get("/healthz")
async def healthz() -> Liveness:
    """Answer 200: the process runs."""
    return Liveness()


@router.get("/readyz", responses={503: {"model": GatewayReadiness}})
async def readyz(gateway: GatewayDep, response: Response) -> GatewayReadiness:
    """Answer 200 once some replica is ready to serve, 503 before."""
    count = len(gateway.feed.table.endpoints)
    if not count:
        response.status_code = 503
    return GatewayReadiness(status="ready" if count else "waiting", replicas=count)


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(gateway: GatewayDep) -> Response:
    """Send the figures of all gateways of this machine, and the registry's of rollouts, in Prometheus' text format."""
    figures = await gateway.siblings.figures()
    with contextlib.suppress(RegistryError):  # the moves of the last reading stay
        gateway.metrics.moves.figures = await gateway.ask(gateway.registry.rollouts.figures)
    text = merge(figures.texts) + counted(len(figures.texts), figures.silent) + gateway.metrics.shared()
    return Response(text, media_type="text/plain; version=0.0.4")
