"""Runs of all cases against all targets, in turn, so that whatever disturbs the machine disturbs all alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.comparison.cases import Case
from bench.comparison.native import MODEL, Load, MockEngine, generate_load
from bench.comparison.process_tree import processor_s
from bench.comparison.targets import Target
from tests.waiting import wait_for

WARM_S: Final = 0.5
IDLE_TIMEOUT_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The run of one case against one target."""

    target: str
    case: str
    round: int
    load: Load
    serving_cpu_s: float
    """Processor time of the processes that serve requests."""
    whole_cpu_s: float
    """Processor time of all processes of the target."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The cases and targets to measure, the number of rounds, and a factor on the cases' durations."""

    cases: Sequence[Case]
    rounds: int
    scale: float
    programs: Path


def measure(plan: Plan, targets: Sequence[Target], mock: MockEngine) -> Iterator[Run]:
    """Run every case against every target once a round; the order of the targets moves on each time."""
    for number in range(plan.rounds):
        for at, case in enumerate(plan.cases):
            first = (number + at) % len(targets)
            for target in (*targets[first:], *targets[:first]):
                yield _run(plan, case, target, number)
                wait_for(lambda: mock.running == 0, IDLE_TIMEOUT_S)


def _run(plan: Plan, case: Case, target: Target, number: int) -> Run:
    serving, whole = target.serving(), target.whole()
    before = [0.0, 0.0]

    def begin() -> None:
        before[:] = processor_s(serving), processor_s(whole)

    words = ["--port", str(target.port), "--model", MODEL, *([] if target.key is None else ["--key", target.key])]
    words += ["--seconds", str(case.seconds * plan.scale * target.patience), "--warm-s", str(WARM_S * target.patience)]
    load = generate_load(plan.programs, [*words, *case.words], begin)
    return Run(
        target=target.name,
        case=case.name,
        round=number,
        load=load,
        serving_cpu_s=processor_s(serving) - before[0],
        whole_cpu_s=processor_s(whole) - before[1],
    )
