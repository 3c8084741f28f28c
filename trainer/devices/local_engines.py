"""The engines on the machine of a worker, and how much they have to do."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import psutil

from registry.contracts.job_spec import JobSpec
from registry.database import Registry
from registry.states import ReplicaState
from registry.types import Replica
from trainer.settings import TrainerSettings


def local_load(registry: Registry) -> int:
    """Return the requests that run or wait in the engines of this machine, by their reports of the last seconds."""
    return load_at(registry.replicas.list(), local_hosts())


def niceness(registry: Registry, settings: TrainerSettings, spec: JobSpec) -> int:
    """Return the niceness of a child that starts now: most have another one beside an engine that serves."""
    gives_way = spec.engines_go_first and bool(_serving_at(registry.replicas.list(), local_hosts()))
    return settings.nice_beside_engines if gives_way else settings.nice


def load_at(replicas: list[Replica], hosts: frozenset[str]) -> int:
    """Return the sum of the loads of the replicas whose server is on one of *hosts*. Pure."""
    return sum(replica.load for replica in _serving_at(replicas, hosts))


def _serving_at(replicas: list[Replica], hosts: frozenset[str]) -> list[Replica]:
    serving = [replica for replica in replicas if replica.state is ReplicaState.READY]
    return [replica for replica in serving if urlsplit(replica.url).hostname in hosts]


def local_hosts() -> frozenset[str]:
    """Return the names and addresses of this machine."""
    addresses = {each.address for found in psutil.net_if_addrs().values() for each in found}
    return frozenset({"localhost", socket.gethostname(), *addresses})
