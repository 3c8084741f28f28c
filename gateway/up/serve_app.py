"""Lorry's applications on the Ray cluster that this process is connected to: deployed, watched, drained."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

import ray
from ray import serve
from ray.serve.schema import ApplicationStatus, DeploymentStatus

from gateway.pools.pools import Pool
from gateway.settings import SettingsSource
from gateway.up.applications import (
    BEYOND_DRAIN_S,
    controller_application,
    engines_application,
    gateway_application,
)
from gateway.up.part_secrets import NO_SECRETS, PartSecrets

APPLICATIONS: Final = ("engines", "gateway", "controller")

_SOURCES: Final = Path(__file__).parents[2]
_LOOK_EVERY_S: Final = 0.1


def connect(address: str) -> None:
    """This process is the driver of the Ray cluster at *address* (`host:port`), which runs on this machine."""
    _connect(address, _node_ip_address=address.rpartition(":")[0])


def attach(address: str) -> None:
    """This process is a driver of the Ray cluster at *address*, of which this machine is a node; `ConnectionError`."""
    _connect(address)


def _connect(address: str, **options: str) -> None:
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    # Ray's workers look for code in the folder that is current now, before all others: no other checkout.
    with contextlib.chdir(_SOURCES):
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **options)


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


def deployed() -> list[str]:
    """Return the names of Lorry's applications that are on the cluster already."""
    return [name for name in APPLICATIONS if name in serve.status().applications]


def drain(drain_timeout_s: float, names: Collection[str] = ("gateway", "engines")) -> None:
    """Gateways have drained, then the engines that answered for them, and this process has left the cluster.

    Where Ray ends afterwards, the controller may end at any moment; else *names* has it as well.
    """
    for application in names:
        # Serve's own wait looks once a second.
        serve.delete(application, _blocking=False)
        deadline = time.monotonic() + drain_timeout_s + 2 * BEYOND_DRAIN_S
        while application in serve.status().applications and time.monotonic() < deadline:
            time.sleep(_LOOK_EVERY_S)
    ray.shutdown()


def start_applications(
    source: SettingsSource,
    pools: Sequence[Pool] = (),
    names: Collection[str] = APPLICATIONS,
    secrets: PartSecrets = NO_SECRETS,
) -> None:
    """Deploy those of the three on the Ray cluster that this process is connected to; returns before they are ready.

    An application that runs already is replaced, one replica at a time. *pools* were prepared for the only machine;
    without them each replica prepares its own.
    """
    settings = source.load()
    prepared = {pool.settings.name: pool for pool in pools}
    of_engines = [pool.settings for pool in pools] or settings.engines.pools
    serve.start(proxy_location="Disabled")
    applications = {
        "engines": engines_application(source, settings, of_engines, prepared),
        "gateway": gateway_application(source, settings, secrets.gateway),
        "controller": controller_application(source, settings, secrets.controller),
    }
    serve.run_many(
        [serve.RunTarget(applications[name], name=name, route_prefix=None) for name in APPLICATIONS if name in names],
        wait_for_ingress_deployment_creation=False,
        wait_for_applications_running=False,
    )
