"""The demands of a cluster: what one machine may leave out and several may not."""

from __future__ import annotations

import os
from typing import Final

from engines.kinds import Hardware
from engines.network.cluster_secret import NO_SECRET, SECRET_VARIABLE, cluster_secret
from gateway.errors import StartFailed
from gateway.settings import Settings, SettingsSource
from registry.settings import ARTIFACTS_VARIABLE, REGISTRY_VARIABLE

_RESERVED_AS_GPU: Final = frozenset({Hardware.NVIDIA, Hardware.AMD})


def check_cluster(source: SettingsSource, settings: Settings) -> None:
    """Raise `StartFailed` naming the first setting with which several machines could not work on one registry."""
    url = settings.registry.url
    if not url.startswith("postgresql"):
        raise StartFailed(
            f"a cluster needs a registry that all nodes reach, and [registry] url is {url.partition(':')[0]}: set "
            f"{REGISTRY_VARIABLE}=postgresql+psycopg://USER:PASSWORD@HOST/NAME in the environment of every node"
        )
    if (
        "artifacts" not in source.tables.get("registry", {})
        and settings.registry.artifacts == settings.home / "artifacts"
    ):
        raise StartFailed(
            "a cluster needs artifacts that all nodes reach, and [registry] artifacts is not set, so that each node "
            "would have its own below LORRY_HOME: set it to a bucket, s3://BUCKET/PREFIX, or to a folder that all "
            f"nodes mount at one path, in the file or as {ARTIFACTS_VARIABLE} in the environment of every node"
        )
    if settings.gateway.host.is_loopback:
        raise StartFailed(
            f"[gateway] host is {settings.gateway.host}, where no other machine reaches a gateway: set it to 0.0.0.0, "
            "and make the first key with `lorry keys create --home --name NAME`"
        )
    if cluster_secret(os.environ) == NO_SECRET:
        raise StartFailed(
            f"a cluster needs a secret by which gateways and engines know each other: set {SECRET_VARIABLE}, alike in "
            "the environment of every node, to what `openssl rand -hex 32` prints"
        )
    for pool in settings.engines.pools:
        if pool.engine.get("hardware") in _RESERVED_AS_GPU and pool.gpus is None:
            raise StartFailed(
                f"pool {pool.name!r} computes on {pool.engine['hardware']} and gpus is not set, so that replicas of a "
                "node would use the same devices: set gpus to the number that each replica has for itself"
            )
