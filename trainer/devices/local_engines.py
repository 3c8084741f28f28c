"""The engines on the machine of a worker, and how much they have to do."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import psutil

from registry.database import Registry
from registry.types import Replica, ReplicaState


def local_load(registry: Registry) -> int:
    """Return the requests that run or wait in the engines of this machine, by their reports of the last seconds."""
    return load_at(registry.replicas.list(), local_hosts())


def load_at(replicas: list[Replica], hosts: frozenset[str]) -> int:
    """Return the sum of the loads of the replicas whose server is on one of *hosts*. Pure."""
    serving = [replica for replica in replicas if replica.state is ReplicaState.READY]
    return sum(replica.load for replica in serving if urlsplit(replica.url).hostname in hosts)


def local_hosts() -> frozenset[str]:
    """Return the names and addresses of this machine."""
    addresses = {each.address for found in psutil.net_if_addrs().values() for each in found}
    return frozenset({"localhost", socket.gethostname(), *addresses})
