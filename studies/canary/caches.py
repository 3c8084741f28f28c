"""`python -m studies.canary.caches`: rollouts of a copy of the stable revision on engines with small caches.

Scheduler, balancer and judge are the product's. Callers share long system prompts. A pass of an engine takes a time of
its own and more for each token, so that a canary waits longer wherever a prompt of its own is not in the cache.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from random import Random
from typing import Any, Final, cast

import typer

from engines.transformers.scheduler import Scheduler, StepPlan
from engines.transformers.sequence import Sequence
from gateway.balancing.balancing import Balancer, affinity_of
from gateway.balancing.replica_health import ReplicaHealth
from gateway.rollouts.judge.judge import Decision, judge
from gateway.routing.routing import Endpoint
from registry.rollouts.guardrails import GuardrailPlan
from registry.rollouts.tally import Cell, Side, Tally, bucket_of

WEIGHTS: Final = (5, 25, 50)
REPLICAS: Final = 2
SLOTS: Final = 16
UNIT: Final = 64
"""Tokens that count as one here; what is shared is found token by token."""
SYSTEM: Final = 1024 // UNIT
QUESTION: Final = (1, 4)
ANSWER: Final = (2, 12)
STEP: Final = 128 // UNIT
PASS_S: Final = 0.004
PROMPT_S: Final = 0.006
"""For each unit of a prompt."""
DECODE_S: Final = 0.0003
BURST_EVERY_S: Final = 20.0
BURST_S: Final = 4.0
STREAMED: Final = 0.8
LONGEST_S: Final = 3600.0
JUDGE_EVERY_S: Final = 5.0
SERVED: Final = {Side.STABLE: "support@1", Side.CANARY: "support@2"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """How callers ask: requests a second, how many times as many in bursts, how many system prompts they share."""

    per_second: float
    burst: float
    prompts: int

    def arrivals(self, source: Random) -> Iterator[float]:
        """Yield the seconds at which requests arrive, by thinning those of a burst that never ends."""
        at_s = 0.0
        while True:
            at_s += source.expovariate(self.per_second * self.burst)
            if at_s % BURST_EVERY_S < BURST_S or source.random() * self.burst < 1.0:
                yield at_s


@dataclass(slots=True, kw_only=True)
class Asked:
    """A request on its way."""

    at_s: float
    cell: Cell
    sequence: Sequence
    is_streamed: bool
    first_s: float = 0.0


@dataclass(slots=True)
class Engine:
    """A replica: passes one after the other while there is something to do."""

    scheduler: Scheduler = field(default_factory=lambda: Scheduler(slots=SLOTS, max_step_tokens=STEP))
    asked: dict[int, Asked] = field(default_factory=dict)
    plan: StepPlan | None = None

    def begin(self, now: float) -> float | None:
        """Begin a pass; return when it ends, None where there is nothing to do."""
        self.plan = self.scheduler.plan()
        if self.plan is None:
            return None
        prompts = sum(row.length for row in self.plan.prompts)
        return now + PASS_S + PROMPT_S * prompts + DECODE_S * len(self.plan.decodes)

    def end(self, now: float) -> list[Asked]:
        """End the pass; return what was answered whole with it."""
        over = []
        rows = () if self.plan is None else (*self.plan.decodes, *self.plan.prompts)
        for row in [row for row in rows if row.is_last]:
            sequence = row.sequence
            asked = self.asked[id(sequence)]
            asked.first_s = asked.first_s or now - asked.at_s
            sequence.tokens.append(-1)
            sequence.generated += 1
            if sequence.generated == sequence.limit:
                self.scheduler.release(sequence)
                over.append(self.asked.pop(id(sequence)))
        return over


@dataclass(slots=True)
class Counts:
    """The counts of gateways for a cell."""

    requests: int = 0
    times: dict[str, Counter[int]] = field(
        default_factory=lambda: {name: Counter() for name in ("ttft", "ttft_cached", "tpot", "tpot_cached")}
    )

    def add(self, asked: Asked, now: float) -> None:
        """Count an answer."""
        sequence = asked.sequence
        is_cached = 2 * sequence.reused >= len(sequence.tokens) - sequence.generated
        found = {"ttft": asked.first_s} if asked.is_streamed else {}
        if not asked.is_streamed:
            found["tpot"] = (now - asked.at_s) / sequence.generated
        elif sequence.generated > 1:
            found["tpot"] = (now - asked.at_s - asked.first_s) / (sequence.generated - 1)
        self.requests += 1
        for name, seconds in found.items():
            self.times[name][bucket_of(seconds)] += 1
            if is_cached:
                self.times[f"{name}_cached"][bucket_of(seconds)] += 1

    def tally(self) -> Tally:
        """Return them as the judge reads them."""
        times = self.times
        return Tally(
            requests=self.requests,
            answers=self.requests,
            ttft=times["ttft"],
            ttft_cached=times["ttft_cached"],
            tpot=times["tpot"],
            tpot_cached=times["tpot_cached"],
        )


class Rollout:
    """A rollout from its first request to its end."""

    def __init__(self, crowd: Crowd, plan: GuardrailPlan, seed: int) -> None:
        """Begin with caches that stable has warmed up for a minute."""
        self._source = Random(seed)  # noqa: S311  a simulation
        self._crowd, self._plan = crowd, plan
        self._engines = {f"replica-{number}": Engine() for number in range(REPLICAS)}
        self._endpoints = tuple(
            Endpoint(replica=name, url="", base="base", engine="", served_names=frozenset(SERVED.values()))
            for name in self._engines
        )
        self._balancer = Balancer(ReplicaHealth())
        self._events: list[tuple[float, int, str]] = []
        self._step = -1
        self.counts: dict[Cell, Counts] = {}

    def run(self) -> tuple[str, float]:
        """Return how it ended, `promoted` or the guardrail that aborted it, and after how many seconds."""
        warm_s, looked_s = 60.0, 0.0
        for at_s in self._crowd.arrivals(self._source):
            self._run_until(at_s)
            if self._step < 0 and at_s >= warm_s:
                self._step, self.counts = 0, {}
            if self._step >= 0 and at_s - looked_s >= JUDGE_EVERY_S:
                looked_s = at_s
                verdict = judge(self._plan, {cell: each.tally() for cell, each in self.counts.items()}, self._step)
                if verdict.decision is Decision.ABORT:
                    return verdict.reason, at_s - warm_s
                self._step += verdict.decision is Decision.ADVANCE
                if self._step == len(WEIGHTS):
                    return "promoted", at_s - warm_s
            if at_s > LONGEST_S:
                return f"not over: {verdict.reason}", at_s - warm_s
            self._ask(at_s)
        raise AssertionError("requests never end")

    def _ask(self, at_s: float) -> None:
        source = self._source
        weight = WEIGHTS[self._step] if self._step >= 0 else 0
        side = Side.CANARY if 100 * source.random() < weight else Side.STABLE
        prompt = source.randrange(self._crowd.prompts)
        affinity = affinity_of(SERVED[side], str(prompt).encode())
        endpoint = self._balancer.choose(self._endpoints, affinity, (), at_s)
        if endpoint is None:
            raise AssertionError("a replica is always there")
        self._balancer.begin(endpoint.replica, SERVED[side])
        question = [source.getrandbits(30) for _ in range(source.randint(*QUESTION))]
        nothing = cast(Any, None)  # a sequence here is never decoded
        sequence = Sequence(
            tokens=[prompt] * SYSTEM + question,
            adapter=1 if side is Side.STABLE else 2,
            limit=source.randint(*ANSWER),
            chooser=nothing,
            text=nothing,
            end_tokens=frozenset(),
            deliver=nothing,
            arrived_at=at_s,
        )
        cell = Cell(rollout_id="r", step=max(self._step, 0), side=side, replica=endpoint.replica)
        asked = Asked(at_s=at_s, cell=cell, sequence=sequence, is_streamed=source.random() < STREAMED)
        engine = self._engines[endpoint.replica]
        engine.asked[id(sequence)] = asked
        engine.scheduler.add(sequence)
        if engine.plan is None:
            self._begin(endpoint.replica, at_s)

    def _begin(self, replica: str, now: float) -> None:
        if (ends := self._engines[replica].begin(now)) is not None:
            heappush(self._events, (ends, len(self._events), replica))

    def _run_until(self, at_s: float) -> None:
        while self._events and self._events[0][0] <= at_s:
            now, _, replica = heappop(self._events)
            for asked in self._engines[replica].end(now):
                self._balancer.end(replica, SERVED[asked.cell.side])
                if self._step >= 0:
                    self.counts.setdefault(asked.cell, Counts()).add(asked, now)
            self._begin(replica, now)


def cached_share(counts: dict[Cell, Counts], side: Side) -> float:
    """Return the share of first tokens whose prompt was in the cache."""
    mine = [each.times for cell, each in counts.items() if cell.side is side]
    return sum(each["ttft_cached"].total() for each in mine) / max(1, sum(each["ttft"].total() for each in mine))


def run(  # noqa: PLR0913  each is an option of the command
    rollouts: int = typer.Option(30, min=1),
    min_samples: int = typer.Option(100, min=1),
    per_second: float = typer.Option(12.0),
    burst: float = typer.Option(4.0, help="How many times as many requests come in a burst."),
    prompts: int = typer.Option(6, help="System prompts that callers share."),
    seed: int = typer.Option(1),
) -> None:
    """Simulate rollouts of a copy of the stable revision, and print how they ended."""
    plan, crowd = GuardrailPlan(min_samples=min_samples), Crowd(per_second=per_second, burst=burst, prompts=prompts)
    ended: Counter[str] = Counter()
    for number in range(rollouts):
        rollout = Rollout(crowd, plan, 1000 * seed + number)
        how, seconds = rollout.run()
        ended[how] += 1
        canary, stable = (cached_share(rollout.counts, side) for side in (Side.CANARY, Side.STABLE))
        typer.echo(f"{number + 1:>4} {how} after {seconds:.0f} s, in caches {canary:.0%} and {stable:.0%}")
    typer.echo(", ".join(f"{count} {how}" for how, count in ended.most_common()))


if __name__ == "__main__":
    typer.run(run)
