"""The steps that a start of `lorry up` still waits for, and the wait until none remains."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from http.client import OK
from pathlib import Path
from typing import Final, Protocol

import httpx2

from gateway.errors import StartFailed
from gateway.pools.pools import Pool
from gateway.settings import Settings
from gateway.up.listening import url_of
from gateway.up.part_secrets import NO_SECRETS, PartSecrets
from gateway.up.progress import StartProgress
from registry.database import Registry
from registry.states import ReplicaState, SlotState
from registry.types import Replica

_READY_TIMEOUT_S: Final = 300.0
_LOOK_EVERY_S: Final = 0.1
_TRIED: Final = (SlotState.READY, SlotState.FAILED)


class StopRequest(Protocol):
    """Whether a person has asked to stop."""

    def wait(self, timeout_s: float) -> bool:
        """Return True when asked to stop, after at most *timeout_s*."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The pools that are to be served, with settings and registry."""

    settings: Settings
    pools: list[Pool]
    registry: Registry
    secrets: PartSecrets = NO_SECRETS

    @property
    def bases(self) -> str:
        """Names of the base models."""
        return ", ".join(sorted({pool.base.name for pool in self.pools}))

    @property
    def url(self) -> str:
        """Address of the gateways."""
        return url_of(self.settings.gateway.host, self.settings.gateway.port)

    def replicas(self) -> list[Replica]:
        """Return the replicas of our pools; an engine that was entered by hand may be away without our failing."""
        return [replica for replica in self.registry.snapshot().replicas if replica.pool]


@dataclass(frozen=True, slots=True, kw_only=True)
class StartState:
    """The state of a start at a moment."""

    missing: Mapping[str, str]
    """Part that is not ready -> what it does."""
    failed: Sequence[str]
    """The reasons of parts that will not become ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartLimits:
    """How long a start may take, how often it is looked at, and where its logs are, as messages end."""

    timeout_s: float
    every_s: float
    logs: str = ""


def wait_until_ready(plan: Plan, progress: StartProgress, stop: StopRequest, failures: Callable[[], list[str]]) -> None:
    """Return when `/readyz` answers 200 and every pool that may not sleep has a ready replica.

    `StartFailed` when something fails, on a stop request, or after too long.
    """
    logs = plan.settings.home / "logs"
    limits = StartLimits(timeout_s=_READY_TIMEOUT_S, every_s=_LOOK_EVERY_S, logs=f"logs are in {logs}")
    # A proxy from the environment is not for a request to this machine.
    with httpx2.Client(trust_env=False, timeout=2.0) as client:

        def look() -> StartState:
            status = _readyz(client, plan.url)
            replicas = plan.replicas()
            awake = [pool.settings.name for pool in plan.pools if not pool.settings.may_sleep]
            missing = missing_parts(awake, replicas, plan.url, status)
            return StartState(missing=missing, failed=[*broken_engines(replicas, logs), *failures()])

        follow_start(look, progress, stop, limits)


def follow_start(
    look: Callable[[], StartState], progress: StartProgress, stop: StopRequest, limits: StartLimits
) -> None:
    """Show the parts that are missing until none is; `StartFailed` when one fails, on a stop request, or too late."""
    deadline = time.monotonic() + limits.timeout_s
    begun: set[str] = set()
    while True:
        state = look()
        for part, doing in state.missing.items():
            progress.begin(part, doing)
        for part in begun - state.missing.keys():
            progress.end(part)
        begun |= state.missing.keys()
        if not state.missing:
            return
        if state.failed:
            raise StartFailed(f"a part does not start: {state.failed[0]}{limits.logs and f'; all {limits.logs}'}")
        if time.monotonic() > deadline:
            raise StartFailed(
                f"not ready {limits.timeout_s:.0f} s after the parts were deployed, still waiting for: "
                f"{progress.waiting_text()}{limits.logs and f'; the {limits.logs}'}"
            )
        if stop.wait(limits.every_s):
            raise StartFailed("stopped before it was ready")


def missing_parts(
    pools: Collection[str], replicas: Collection[Replica], url: str, status: int | None
) -> dict[str, str]:
    """Return the parts that are not ready yet, each with what it does.

    *status* is that of `/readyz`, None where nobody answered.
    """
    ready = {replica.pool for replica in replicas if replica.state is ReplicaState.READY}
    missing = {
        "engine" if len(pools) == 1 else f"engine of pool {pool}": _doing_of(
            [one for one in replicas if one.pool == pool]
        )
        for pool in pools
        if pool not in ready
    }
    if status is None:
        missing["gateways"] = f"starting, to listen on {url}"
    elif status != OK:
        missing["gateways"] = "listening, until an engine is ready"
    return missing


def _doing_of(replicas: Collection[Replica]) -> str:
    starting = next((one for one in replicas if one.state is ReplicaState.STARTING), None)
    if starting is None:
        return "starting its process"
    if not starting.url:
        return f"{starting.engine} loads {starting.base}"
    if not starting.slots:
        return f"{starting.engine} answers its first health check"
    tried = sum(slot.state in _TRIED for slot in starting.slots)
    return f"{starting.engine} proves its adapters, {tried} of {len(starting.slots)} done"


def broken_engines(replicas: Collection[Replica], logs: Path) -> list[str]:
    """Return what unhealthy replicas report, each with the log of its engine."""
    return [f"{one.message} (its log: {logs / one.id}.log)" for one in replicas if one.state is ReplicaState.UNHEALTHY]


def _readyz(client: httpx2.Client, url: str) -> int | None:
    with contextlib.suppress(httpx2.TransportError):
        return client.get(f"{url}/readyz").status_code
    return None
