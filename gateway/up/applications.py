"""The Ray Serve graph: applications `gateway`, `engines` and `controller`, built from settings.

No request byte passes through Ray: gateway replicas listen on a port of their own, which they share (SO_REUSEPORT), and
talk HTTP to the engines. Ray places, restarts and scales them. They are separate applications so that a change of one
does not roll the others. Each actor has a module of its own: Ray pickles a class by its module's name, so a process
imports that module alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ray import serve
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy

from gateway.engines_settings import PoolSettings
from gateway.pools.autoscaling import FollowRequests
from gateway.pools.pools import Pool, drain_timeout_of
from gateway.settings import Settings, SettingsSource
from gateway.up.cluster.placement_options import placement_options
from gateway.up.controller_actor import ControllerActor
from gateway.up.engine_actor import EngineActor
from gateway.up.gateway_actor import GatewayReplica

BEYOND_DRAIN_S: Final = 10.0
"""How much longer than its own drain an actor may take to end until Serve kills it."""

_OPTIONS = {"max_ongoing_requests": 10000, "logging_config": {"enable_access_log": False}}
_NO_CPU: Final[dict[str, Any]] = {"num_cpus": 0}
"""Serve reserves a CPU for each replica by default, and a small machine has fewer than Lorry has processes."""
_LOOK_BACK_S: Final = 11.0
"""Seconds over which Serve averages the load that replicas report; Serve wants more than 10 s."""
_HEALTH = {"health_check_period_s": 2.0, "health_check_timeout_s": 10.0}


def gateway_application(source: SettingsSource, settings: Settings, secrets: Mapping[str, str]) -> serve.Application:
    """Return the application of the gateway processes; *secrets* go into their environment."""
    knobs = settings.gateway
    deployment = serve.deployment(
        GatewayReplica,
        name="gateway",
        num_replicas=knobs.replicas,
        max_replicas_per_node=knobs.max_replicas_per_node,
        ray_actor_options=_NO_CPU | {"resources": knobs.resources},
        **_common(knobs.drain_timeout_s),
    )
    return deployment.bind(source, secrets)


def controller_application(source: SettingsSource, settings: Settings, secrets: Mapping[str, str]) -> serve.Application:
    """Return the application of the controllers; *secrets* go into their environment."""
    count = settings.gateway.controllers
    deployment = serve.deployment(
        ControllerActor,
        name="controller",
        num_replicas=count,
        max_replicas_per_node=None if count == 1 else 1,  # a second one on a node would fail with the first
        ray_actor_options=_NO_CPU | {"resources": settings.gateway.resources},
        **_common(settings.gateway.drain_timeout_s),
    )
    return deployment.bind(source, secrets)


def engines_application(
    source: SettingsSource,
    settings: Settings,
    pools: Sequence[PoolSettings],
    prepared: Mapping[str, Pool],
) -> serve.Application:
    """Return the application of the engines of *pools*, a deployment for each.

    Replicas of pools that are *prepared* take them as they are, all others prepare theirs on their own node.
    """
    first, *others = (
        (
            serve.deployment(
                EngineActor,
                name=pool.name,
                **_size(pool, starts_asleep=pool.name in prepared),
                **placement_options(pool),
                **_common(drain_timeout_of(settings, pool)),
            ),
            pool,
        )
        for pool in pools
    )
    bound = [deployment.bind(source, pool.name, prepared.get(pool.name)) for deployment, pool in others]
    deployment, pool = first
    return deployment.bind(source, pool.name, prepared.get(pool.name), *bound)


def _common(drain_timeout_s: float) -> dict[str, Any]:
    return {
        **_OPTIONS,
        **_HEALTH,
        # Serve kills an actor after this time, so it is longer than the actor's own drain.
        "graceful_shutdown_timeout_s": drain_timeout_s + BEYOND_DRAIN_S,
        # Serve waits so long for requests of its own, of which there are none.
        "graceful_shutdown_wait_loop_s": 0.1,
    }


def _size(pool: PoolSettings, *, starts_asleep: bool) -> dict[str, Any]:
    """How many replicas: a number, or bounds and what moves between them.

    A pool that may sleep begins so where its base model is known by now. Elsewhere it begins with a replica, as only a
    node finds out what the pool serves.
    """
    if pool.most_replicas == pool.min_replicas:
        return {"num_replicas": pool.min_replicas}
    policy = AutoscalingPolicy(policy_function=FollowRequests, policy_kwargs={"target_requests": pool.target_requests})
    return {
        "autoscaling_config": AutoscalingConfig(
            min_replicas=pool.min_replicas,
            initial_replicas=int(not starts_asleep) if pool.may_sleep else None,
            max_replicas=pool.most_replicas,
            upscale_delay_s=pool.scale_up_after_s,
            downscale_delay_s=pool.scale_down_after_s,
            downscale_to_zero_delay_s=pool.sleep_after_s,
            look_back_period_s=_LOOK_BACK_S,
            policy=policy,
        )
    }
