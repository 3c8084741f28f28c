"""Adapters that come and go in a registry while gateways serve: published, rolled out, judged, promoted, retired.

A controller of the product moves the rollouts. Instead of real replicas, this reports that the mock's engines have
whatever was published.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from bench.comparison.native import MODEL
from bench.long_running.clients import Crowd
from gateway.rollouts.controller import promote, reconcile
from gateway.settings import GatewaySettings
from registry.database import Registry
from registry.keys import KeyDraft, Scope
from registry.publishing.publish import publish
from registry.rollouts.guardrails import GuardrailPlan
from registry.rollouts.rollout import RolloutPlan, weighted
from registry.rollouts.rollout_state import RolloutState
from registry.states import RevisionState, SlotState
from registry.types import Base, Replica, RevisionDraft, Slot
from tests.conftest import write_adapter, write_base

NAMES: Final = tuple(f"adapter-{number:02}" for number in range(24))
SERVED_AT_ONCE: Final = 8
PAUSE_S: Final = 3.0
IN_FORCE_S: Final = 2.0
"""Longer than gateways take to read a change of the registry, and than a request takes to be routed."""
PATIENCE_S: Final = 45.0
TICK_S: Final = 1.0
_PLAN: Final = RolloutPlan(steps=weighted(50, 100), guardrails=GuardrailPlan(min_samples=10))


class Churn:
    """Publishes, rolls out and retires for as long as it runs."""

    def __init__(self, registry: Registry, folder: Path, crowd: Crowd) -> None:
        """Give the mock's base model a folder of its own below *folder*, which adapters are checked against."""
        self._registry = registry
        self._folder = folder
        self._crowd = crowd
        stored = registry.bases.get(MODEL)
        written = write_base(folder / "base")
        self._base: Base = registry.bases.enter(replace(stored, path=written.path))
        self._replicas: Sequence[Replica] = registry.snapshot().replicas
        self.done: Counter[str] = Counter()

    async def run(self) -> None:
        """Let adapters come and go; every name comes back after a while with its next revision."""
        source = random.Random(7)
        for number in range(1_000_000):
            name = NAMES[number % len(NAMES)]
            await self._come(name, number)
            served = [each for each in self._crowd.served if each != MODEL]
            if len(served) > SERVED_AT_ONCE:
                await self._go(served[0])
            await self._roll_out(source.choice(self._crowd.served[1:]), number)
            await asyncio.to_thread(self._exchange_keys, number)
            await asyncio.sleep(PAUSE_S)

    async def control(self) -> None:
        """Do what the controller and the replicas do, once a second."""
        knobs = GatewaySettings()
        while True:
            await asyncio.to_thread(self._report)
            await asyncio.to_thread(reconcile, self._registry, knobs, time.time(), trusts_silence=False)
            await asyncio.sleep(TICK_S)

    def _report(self) -> None:
        ready = [each.served_name for each in self._registry.snapshot().revisions]
        slots = tuple(Slot(served_name=name, state=SlotState.READY) for name in ready)
        for replica in self._replicas:
            self._registry.replicas.report(replace(replica, slots=slots, capacity=64))

    async def _come(self, name: str, seed: int) -> None:
        await asyncio.to_thread(self._publish, name, seed, None)
        deadline = time.monotonic() + PATIENCE_S
        while self._registry.adapters.get(name).stable is None:
            if time.monotonic() > deadline:
                raise SystemExit(f"{name} did not become stable within {PATIENCE_S} s")
            await asyncio.sleep(0.2)
        await asyncio.sleep(IN_FORCE_S)
        self._crowd.served.append(name)
        self.done["published"] += 1

    async def _go(self, name: str) -> None:
        self._crowd.served.remove(name)
        await asyncio.sleep(IN_FORCE_S)
        await asyncio.to_thread(self._retire_all, name)
        self.done["taken out of service"] += 1

    async def _roll_out(self, name: str, seed: int) -> None:
        """Publish the next revision of *name* and wait until its rollout is over; promote it where that takes long."""
        await asyncio.to_thread(self._publish, name, 1_000_000 + seed, _PLAN)
        deadline = time.monotonic() + PATIENCE_S
        while (rollout := self._registry.rollouts.open_for(name)) is not None:
            if time.monotonic() > deadline:
                promote(self._registry, rollout.id, "bench", full=True)
                self.done["promoted by hand"] += 1
            await asyncio.sleep(0.5)
        state = self._registry.rollouts.list(name, 1)[0].state
        self.done[f"rollouts that ended {state}"] += 1
        if state is RolloutState.PROMOTED:
            await asyncio.sleep(IN_FORCE_S)
            await asyncio.to_thread(self._retire_old, name)

    def _publish(self, name: str, seed: int, plan: RolloutPlan | None) -> None:
        folder = self._folder / f"adapter-{seed}"
        write_adapter(folder, self._base, seed)
        draft = RevisionDraft(adapter=name, base=MODEL, owner="bench")
        publish(self._registry, folder, draft, rollout=plan)
        shutil.rmtree(folder)

    def _retire_old(self, name: str) -> None:
        stable = self._registry.adapters.get(name).stable
        for revision in self._registry.adapters.revisions(name):
            if revision.number != stable and revision.state is RevisionState.READY:
                self._registry.adapters.retire(name, revision.number, "bench")

    def _retire_all(self, name: str) -> None:
        self._retire_old(name)
        stable = self._registry.adapters.get(name).stable
        assert stable is not None
        self._registry.adapters.retire(name, stable, "bench", may_be_last=True)

    def _exchange_keys(self, number: int) -> None:
        key = KeyDraft(name=f"passing-{number}", scopes=frozenset({Scope.INFERENCE}))
        self._registry.keys.create(key, actor="bench")
        if number:
            self._registry.keys.revoke(f"passing-{number - 1}", actor="bench")
