"""A gateway before stub engines in the middle of a rollout of `support@2` over `support@1`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import orjson

from gateway.settings import GatewaySettings
from registry.database import Registry
from registry.publishing.publish import publish
from registry.rollouts.rollout import Rollout, RolloutPlan, step_from
from registry.rollouts.rollout_state import RolloutState
from registry.rollouts.tally import Cell, Side, Tally, total
from registry.states import SlotState
from registry.types import Base, RevisionDraft, Slot
from tests.gateway.replica_rows import replica_row
from tests.gateway.served import ServedGateway
from tests.gateway.telemetry.scraped import without_process
from tests.stub_engine import Script, StubEngine, answer, stream
from tests.waiting import wait_for

SETTINGS = GatewaySettings(replica_wait_s=20.0, route_refresh_s=0.05, observe_flush_s=0.05)
CHAT = {"model": "support", "messages": [{"role": "user", "content": "hi"}]}


class RolloutScene:
    """Two published revisions, replicas that have both loaded, and a gateway once `client` is asked for."""

    def __init__(self, registry: Registry, base: Base, make_adapter: Callable[..., Path]) -> None:
        self.registry = registry
        self.engines: list[StubEngine] = []
        self._gateways: dict[httpx2.Client, ServedGateway] = {}
        registry.bases.enter(base)
        for seed in (1, 2):
            publish(registry, make_adapter(seed), RevisionDraft(adapter="support", base="tiny", owner="ann"))
        registry.adapters.set_first_stable("support", 1, reason="first_revision")

    def add_replica(self, *scripts: Script, loaded: tuple[int, ...] = (1, 2)) -> StubEngine:
        """A replica `r0`, `r1`, ... whose engine answers by the scripts."""
        engine = StubEngine(*scripts)
        slots = tuple(Slot(served_name=f"support@{number}", state=SlotState.READY) for number in loaded)
        self.registry.replicas.report(replica_row(f"r{len(self.engines)}", url=engine.url, slots=slots))
        self.engines.append(engine)
        return engine

    def start(
        self, *steps: int | str, to: RolloutState | None = RolloutState.PROGRESSING, judge: str | None = None
    ) -> Rollout:
        """A rollout with these steps and 100, moved on to a state."""
        plan = RolloutPlan(steps=tuple(step_from(step) for step in (*steps, 100)), shadow_judge=judge)
        rollout = self.registry.rollouts.start("support", 2, plan, "ann")
        return rollout if to is None else self.registry.rollouts.move(rollout.id, rollout.state, to, reason="test")

    def client(self, settings: GatewaySettings = SETTINGS) -> httpx2.Client:
        """A client of a gateway of its own."""
        return self.serve(settings).client

    def serve(self, settings: GatewaySettings = SETTINGS) -> ServedGateway:
        """A gateway of its own."""
        gateway = ServedGateway(settings, self.registry)
        self._gateways[gateway.client] = gateway
        return gateway

    def end(self, client: httpx2.Client) -> None:
        """End the gateway of this client."""
        self._gateways.pop(client).close()

    def close(self) -> None:
        """End the gateways, all at once, then the engines."""
        for gateway in self._gateways.values():
            gateway.client.close()
            gateway.begin_drain()
        for client in list(self._gateways):
            self.end(client)
        for engine in self.engines:
            engine.close()

    def counted(self, rollout: Rollout, side: Side, requests: int) -> Tally:
        """Everything counted of a side, over all replicas, once that is so many requests."""

        def enough() -> list[Tally]:
            cells = self.registry.tallies.of_rollout(rollout.id).items()
            tally = total(tally for cell, tally in cells if cell.side is side)
            return [tally] if tally.requests + sum(tally.errors.values()) >= requests else []

        return wait_for(enough)[0]

    def dropped(self, client: httpx2.Client, reason: str) -> int:
        """How many copies were dropped for this reason."""
        sought = f'gateway_rollout_shadow_dropped_total{{adapter="support",reason="{reason}"}} '
        lines = without_process(client.get("/metrics").text).splitlines()
        return sum(int(float(line.removeprefix(sought))) for line in lines if line.startswith(sought))

    def cells(self, rollout: Rollout) -> dict[Cell, Tally]:
        """The tallies that the registry has."""
        return self.registry.tallies.of_rollout(rollout.id)


def said(content: str, number: int = 1, finish: str = "stop") -> Script:
    """A whole answer."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish}
    body = {"id": f"chatcmpl-{number}", "choices": [choice], "usage": {"completion_tokens": 3}}
    return answer(200, orjson.dumps(body))


def events(*contents: str, number: int = 1, finish: str | None = "stop") -> list[bytes]:
    """A stream that says *contents* and ends with *finish*; None leaves its end out."""

    def event(delta: dict[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return b"data: " + orjson.dumps({"id": f"chatcmpl-{number}", "choices": [choice]}) + b"\n\n"

    sent = [event({"role": "assistant", "content": ""}), *(event({"content": content}) for content in contents)]
    return sent if finish is None else [*sent, event({}, finish), b"data: [DONE]\n\n"]


def streamed(*contents: str, number: int = 1, finish: str = "stop") -> Script:
    """A whole answer in events."""
    return stream(*events(*contents, number=number, finish=finish))
