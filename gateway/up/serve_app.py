"""The Ray Serve graph: applications `gateway`, `engines` and `controller`, built from settings.

No request byte passes through Ray: gateway replicas listen on a port of their own, which they share (SO_REUSEPORT), and
talk HTTP to the engines. Ray places, restarts and scales them. They are separate applications so that a change of one
does not roll the others. Each actor has a module of its own: Ray pickles a class by its module's name, so a process
imports that module alone.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Final

import ray
from ray import serve
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy
from ray.serve.schema import ApplicationStatus, DeploymentStatus

from gateway.engines_settings import PoolSettings
from gateway.pools.autoscaling import FollowRequests
from gateway.pools.pools import Pool
from gateway.settings import Settings
from gateway.up.controller_actor import ControllerActor
from gateway.up.engine_actor import EngineActor
from gateway.up.gateway_actor import GatewayReplica
from gateway.up.part_secrets import NO_SECRETS, PartSecrets

_SOURCES: Final = Path(__file__).parents[2]
_OPTIONS = {"max_ongoing_requests": 10000, "logging_config": {"enable_access_log": False}}
_LOOK_BACK_S: Final = 11.0
"""Seconds over which Serve averages the load that replicas report; Serve wants more than 10 s."""
_LOOK_EVERY_S: Final = 0.1
_BEYOND_DRAIN_S: Final = 10.0
"""How much longer than its own drain an actor may take to end until Serve kills it."""
_HEALTH = {"health_check_period_s": 2.0, "health_check_timeout_s": 10.0}


def connect(address: str) -> None:
    """This process is the driver of the Ray cluster at *address* (`host:port`)."""
    host = address.rpartition(":")[0]
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    # Ray's workers look for code in the folder that is current now, before all others: no other checkout.
    with contextlib.chdir(_SOURCES):
        ray.init(address=address, _node_ip_address=host, log_to_driver=False, logging_level="ERROR")


def failures() -> list[str]:
    """Serve's messages about applications that it could not deploy."""
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


def drain(drain_timeout_s: float) -> None:
    """Gateways have drained, then the engines that answered for them. The controller may end at any moment."""
    for application in ("gateway", "engines"):
        # Serve's own wait looks once a second.
        serve.delete(application, _blocking=False)
        deadline = time.monotonic() + drain_timeout_s + 2 * _BEYOND_DRAIN_S
        while application in serve.status().applications and time.monotonic() < deadline:
            time.sleep(_LOOK_EVERY_S)
    ray.shutdown()


def start_applications(
    settings: Settings,
    pools: Sequence[Pool],
    names: Collection[str] = ("engines", "gateway", "controller"),
    secrets: PartSecrets = NO_SECRETS,
) -> None:
    """Deploy those of the three on the Ray cluster that this process is connected to; returns before they are ready.

    An application that runs already is replaced, one replica at a time.
    """
    # Serve kills an actor after this time, so it is longer than the actor's own drain.
    drain_s = settings.gateway.drain_timeout_s + _BEYOND_DRAIN_S
    # Serve reserves a CPU for each replica by default, and a small machine has fewer than Lorry has processes.
    common = {**_OPTIONS, **_HEALTH, "ray_actor_options": {"num_cpus": 0}, "graceful_shutdown_timeout_s": drain_s}
    # Serve waits so long for requests of its own, of which there are none.
    common["graceful_shutdown_wait_loop_s"] = 0.1
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
        serve.RunTarget(gateways.bind(settings, secrets.gateway), name="gateway", route_prefix=None),
        serve.RunTarget(controller.bind(settings, secrets.controller), name="controller", route_prefix=None),
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
