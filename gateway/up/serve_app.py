"""The Ray Serve graph: applications `gateway`, `engines` and `controller`, built from settings.

No request byte passes through Ray: gateway replicas listen on a port of their own, which they share (SO_REUSEPORT), and
talk HTTP to the engines. Ray places, restarts and scales them. They are separate applications so that a change of one
does not roll the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Collection, Sequence
from typing import Any, Final
from uuid import uuid4

import httpx2
import ray
import uvicorn
from ray import serve
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy
from ray.serve.schema import ApplicationStatus, DeploymentStatus

from engines.replica.replica import EngineReplica
from gateway.app import build_gateway
from gateway.pools.autoscaling import REQUESTS, FollowRequests
from gateway.pools.entered_engines import EnteredEngines
from gateway.pools.journal import RegistryJournal, ReplicaIdentity, host_prefix
from gateway.pools.pools import Pool, engine_source, pace_of, precision_of, prover_of, room_of
from gateway.rollouts.controller import reconcile
from gateway.rollouts.webhooks import Sender, open_sender
from gateway.settings import PoolSettings, Settings
from gateway.up.http_server import server_config
from gateway.up.listening import check_keys, listen
from gateway.up.logs import log_to
from registry.database import open_registry
from registry.errors import RegistryError

log = logging.getLogger(__name__)

_OPTIONS = {"max_ongoing_requests": 10000, "logging_config": {"enable_access_log": False}}
_TELL_EVERY_S = 1.0
_LOOK_BACK_S: Final = 11.0
"""Over how long Serve averages what replicas say of their load; it wants more than 10 s."""
_HEALTH = {"health_check_period_s": 1.0, "health_check_timeout_s": 10.0}


class GatewayReplica:
    """A gateway process: the FastAPI application on the shared port."""

    async def __init__(self, settings: Settings) -> None:  # type: ignore[misc]  # Serve awaits it
        """Return once the port answers."""
        log_to(settings.home, "gateway")
        knobs = settings.gateway
        registry = open_registry(settings.registry)
        check_keys(knobs.host, registry)
        self._gateway = build_gateway(knobs, registry, settings.home, settings.traces)
        self._server = _QuietServer(server_config(self._gateway))
        self._listener = listen(knobs.host, knobs.port)
        self._serving = asyncio.create_task(self._server.serve(sockets=[self._listener]))
        while not self._server.started:
            if self._serving.done():
                self._serving.result()
            await asyncio.sleep(0.01)

    def check_health(self) -> None:
        """Ray replaces this replica when the server has ended."""
        if self._serving.done():
            raise RuntimeError("the HTTP server has ended")

    async def __del__(self) -> None:
        """Drain: no new connection, what is in flight finishes, then the port is closed."""
        self._server.should_exit = True
        await self._serving
        self._gateway.registry.close()


class _QuietServer(uvicorn.Server):
    """Uvicorn inside an actor: signals belong to Ray."""

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        yield


class EngineActor:
    """An engine replica: supervises one inference server and keeps its row in the registry."""

    async def __init__(self, settings: Settings, pool: Pool, *_others: object) -> None:  # type: ignore[misc]  # Serve awaits it
        """Start it; readiness is told through the registry, not to Ray, so that a slow engine is not killed.

        The other pools are named so that all belong to one application; nothing is asked of them.
        """
        log_to(settings.home, "engines")
        engine = pool.engine
        identity = ReplicaIdentity(
            id=f"{host_prefix()}{engine.kind}-{uuid4().hex[:6]}",
            pool=pool.settings.name,
            base=pool.base.name,
            engine=engine.kind,
            capacity=engine.max_adapters,
            max_rank=engine.max_rank,
            room=room_of(engine, settings.gateway.room_factor),
            rollback_window_s=settings.gateway.rollback_window_s,
            started_at=time.time(),
        )
        placed = engine.model_copy(update={"log_path": settings.home / "logs" / f"{identity.id}.log"})
        self._knobs = settings.gateway
        self._registry = open_registry(settings.registry)
        self._journal = RegistryJournal(self._registry, identity)
        self._replica = EngineReplica(
            engine_source(placed),
            self._journal,
            prover_of(engine.kind, precision_of(engine)),
            pace_of(settings.engines, settings.gateway.route_refresh_s),
        )
        self._running = asyncio.create_task(self._replica.run())

    def record_autoscaling_stats(self) -> dict[str, float]:
        """What the number of replicas follows; Serve itself sees no request."""
        return {REQUESTS: float(self._replica.load)}

    def check_health(self) -> None:
        """Ray replaces this replica when its loop has ended."""
        if self._running.done():
            raise RuntimeError("the replica's loop has ended") from self._running.exception()

    async def __del__(self) -> None:
        """Drain: unroute, let requests finish, stop the engine, leave the registry."""
        self._running.cancel()
        await self._replica.drain(4 * self._knobs.route_refresh_s, self._knobs.drain_timeout_s)
        with contextlib.suppress(OSError):
            await asyncio.to_thread(self._journal.leave)
        self._registry.close()


class ControllerActor:
    """The one controller; a second one would do no harm. It tells of moves beside, so that no receiver holds it up."""

    async def __init__(self, settings: Settings) -> None:  # type: ignore[misc]  # Serve awaits it
        """Start reconciling, and telling if there is a receiver."""
        log_to(settings.home, "controller")
        self._knobs = settings.gateway
        self._registry = open_registry(settings.registry)
        self._loops = [
            asyncio.create_task(self._reconcile()),
            asyncio.create_task(EnteredEngines(self._registry, settings).run()),
        ]
        if (sender := open_sender(settings.webhooks, os.environ)) is not None:
            self._loops.append(asyncio.create_task(self._tell(sender)))

    async def _reconcile(self) -> None:
        while True:
            try:
                await asyncio.to_thread(reconcile, self._registry, self._knobs, time.time())
            except RegistryError as exc:
                log.warning("reconcile failed, trying again", extra={"error": str(exc)})
            await asyncio.sleep(self._knobs.reconcile_s)

    async def _tell(self, sender: Sender) -> None:
        with httpx2.Client(trust_env=False) as http:
            while True:
                try:
                    await asyncio.to_thread(sender.deliver_due, self._registry, http)
                except RegistryError as exc:
                    log.warning("webhooks stand still, trying again", extra={"error": str(exc)})
                await asyncio.sleep(_TELL_EVERY_S)

    def check_health(self) -> None:
        """Ray replaces this replica when one of its loops has ended."""
        for loop in self._loops:
            if loop.done():
                raise RuntimeError("a loop of the controller has ended") from loop.exception()

    async def __del__(self) -> None:
        """Stop."""
        for loop in self._loops:
            loop.cancel()
        self._registry.close()


def connect(address: str) -> None:
    """This process is the driver of the Ray cluster at *address* (`host:port`)."""
    host = address.rpartition(":")[0]
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    ray.init(address=address, _node_ip_address=host, log_to_driver=False, logging_level="ERROR")


def failures() -> list[str]:
    """What Serve says of applications that it could not deploy."""
    applications = serve.status().applications.items()
    failed = (ApplicationStatus.DEPLOY_FAILED, ApplicationStatus.UNHEALTHY)
    return [f"{name}: {about.message}" for name, about in applications if about.status in failed]


def is_running(name: str) -> bool:
    """Whether all replicas of an application are as they were deployed last."""
    about = serve.status().applications[name]
    deployments = about.deployments.values()
    return about.status is ApplicationStatus.RUNNING and all(
        one.status is DeploymentStatus.HEALTHY for one in deployments
    )


def drain() -> None:
    """Gateways have drained, then the engines that answered for them. The controller may end at any moment."""
    for application in ("gateway", "engines"):
        serve.delete(application)
    ray.shutdown()


def start_applications(
    settings: Settings, pools: Sequence[Pool], names: Collection[str] = ("engines", "gateway", "controller")
) -> None:
    """Deploy those of the three on the Ray cluster that this process is connected to; returns before they are ready.

    One that runs already is replaced, one replica at a time.
    """
    drain_s = settings.gateway.drain_timeout_s + 10.0
    common = {**_OPTIONS, **_HEALTH, "ray_actor_options": {"num_cpus": 0}, "graceful_shutdown_timeout_s": drain_s}
    gateways = serve.deployment(GatewayReplica, name="gateway", num_replicas=settings.gateway.replicas, **common)
    controller = serve.deployment(ControllerActor, name="controller", num_replicas=1, **common)
    first, *others = (
        (serve.deployment(EngineActor, name=pool.settings.name, **_size(pool.settings), **common), pool)
        for pool in pools
    )
    bound = [deployment.bind(settings, pool) for deployment, pool in others]
    serve.start(proxy_location="Disabled")
    targets = (
        serve.RunTarget(first[0].bind(settings, first[1], *bound), name="engines", route_prefix=None),
        serve.RunTarget(gateways.bind(settings), name="gateway", route_prefix=None),
        serve.RunTarget(controller.bind(settings), name="controller", route_prefix=None),
    )
    serve.run_many(
        [target for target in targets if target.name in names],
        wait_for_ingress_deployment_creation=False,
        wait_for_applications_running=False,
    )


def _size(pool: PoolSettings) -> dict[str, Any]:
    """How many replicas: a number, or bounds and what moves between them."""
    if pool.most_replicas == pool.min_replicas:
        return {"num_replicas": pool.min_replicas}
    policy = AutoscalingPolicy(policy_function=FollowRequests, policy_kwargs={"target_requests": pool.target_requests})
    return {
        "autoscaling_config": AutoscalingConfig(
            min_replicas=pool.min_replicas,
            max_replicas=pool.most_replicas,
            upscale_delay_s=pool.scale_up_after_s,
            downscale_delay_s=pool.scale_down_after_s,
            look_back_period_s=_LOOK_BACK_S,
            policy=policy,
        )
    }
