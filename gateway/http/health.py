"""`/healthz`, `/readyz` and `/metrics`."""

from __future__ import annotations

import contextlib

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from gateway.deps import GatewayDep
from gateway.telemetry.exposition import counted, merge
from registry.errors import RegistryError

router = APIRouter()


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(gateway: GatewayDep) -> Response:
    """200 once some replica is ready to serve, 503 before."""
    count = len(gateway.feed.table.endpoints)
    return JSONResponse({"status": "ready" if count else "waiting", "replicas": count}, 200 if count else 503)


@router.get("/metrics")
async def metrics(gateway: GatewayDep) -> Response:
    """The figures of all gateways of this machine in Prometheus' text format, and the registry's of rollouts."""
    figures = await gateway.siblings.figures()
    with contextlib.suppress(RegistryError):  # then the moves are those of the last time
        gateway.metrics.moves.figures = await gateway.ask(gateway.registry.rollouts.figures)
    text = merge(figures.texts) + counted(len(figures.texts), figures.silent) + gateway.metrics.shared()
    return Response(text, media_type="text/plain; version=0.0.4")
