"""`/healthz`, `/-/healthz`, `/readyz`, `/health` and `/metrics`."""

from __future__ import annotations

import asyncio
import time
from typing import Literal

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, Response

from gateway.deps import Gateway, GatewayDep
from gateway.objects.operations import GatewayReadiness, Liveness
from gateway.telemetry.exposition import counted, merge
from registry.errors import RegistryError

router = APIRouter(tags=["operating"])


@router.get("/healthz")
async def healthz() -> Liveness:
    """Answer 200: the process runs."""
    return Liveness()


@router.get("/-/healthz", response_class=PlainTextResponse)
async def serve_healthz() -> Response:
    """Answer 200 and `success`, by which KubeRay sees that the pod of a RayService takes requests."""
    return PlainTextResponse("success")


@router.get("/readyz", responses={503: {"model": GatewayReadiness}})
async def readyz(gateway: GatewayDep, response: Response) -> GatewayReadiness:
    """Answer 200 while some replica is ready to serve and this gateway follows the registry, else 503 with why.

    A pool that may sleep (`min_replicas = 0`) counts as well: the next request wakes it.
    """
    count, problems = len(gateway.feed.table.endpoints), gateway.problems(time.monotonic())
    can_answer = _can_answer(gateway)
    if problems or not can_answer:
        response.status_code = 503
    status: Literal["ready", "waiting", "failing"] = "failing" if problems else "ready" if can_answer else "waiting"
    return GatewayReadiness(status=status, replicas=count, problems=problems)


def _can_answer(gateway: Gateway) -> bool:
    table = gateway.feed.table
    return bool(table.endpoints or table.sleeping_pools)


@router.get("/health", response_class=Response, responses={503: {"description": "No replica can serve."}})
async def health(gateway: GatewayDep) -> Response:
    """Answer as `/readyz` does, with an empty body, as vLLM and SGLang do."""
    is_ready = _can_answer(gateway) and not gateway.problems(time.monotonic())
    return Response(status_code=200 if is_ready else 503)


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(gateway: GatewayDep) -> Response:
    """Send the figures of all gateways here, of the machine and of the registry, in Prometheus' text format."""
    figures = await gateway.siblings.figures()
    await _read_registry(gateway)
    # In a thread: a disk on the network may take its time to name its room.
    shared = await asyncio.to_thread(gateway.metrics.shared)
    text = merge(figures.texts) + counted(len(figures.texts), figures.silent) + shared
    return Response(text, media_type="text/plain; version=0.0.4")


async def _read_registry(gateway: Gateway) -> None:
    """Read the figures that the registry has. Where it is away, those of the last reading stay."""
    metrics, registry = gateway.metrics, gateway.registry
    try:
        metrics.moves.figures = await gateway.ask(registry.rollouts.figures)
        metrics.batch_states.figures = await gateway.ask(registry.batches.figures)
        metrics.jobs.figures = await gateway.ask(registry.job_figures.read)
    except RegistryError:
        metrics.registry_reach.is_reached = False
    else:
        metrics.registry_reach.is_reached = True
