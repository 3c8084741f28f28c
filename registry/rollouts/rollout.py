"""Rollouts: states, legal moves and the plan of steps. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise, takewhile
from typing import Any, Final

from registry.errors import IllegalMove, InvalidPlan
from registry.rollouts.gate import GatePlan, gate_as_json, gate_from
from registry.rollouts.guardrails import GuardrailPlan, guardrails_as_json, guardrails_from
from registry.rollouts.rollout_state import RolloutState
from registry.wording.field_faults import json_text

SHADOW: Final = "shadow:"
"""Prefix of a shadow step in JSON and on the command line."""


def utc(at: float) -> str:
    """Return *at* (unix seconds) for messages."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A stretch of a rollout, in which the canary answers `weight` percent of the conversations.

    In a shadow step the canary answers none of them and gets copies of `shadow_percent` of the stable's requests.
    """

    weight: int
    shadow_percent: int = 0

    def as_json(self) -> int | str:
        """Return the step as `step_from` reads it: `25`, or `"shadow:10"`."""
        return f"{SHADOW}{self.shadow_percent}" if self.shadow_percent else self.weight


def weighted(*percents: int) -> tuple[Step, ...]:
    """Return steps with these canary weights."""
    return tuple(Step(weight=percent) for percent in percents)


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutPlan:
    """Shadow steps, then rising canary weights in percent up to 100, where the rollout promotes itself.

    A judged step ends when the verdict is to advance and `every_s` is over. Without guardrails `every_s` alone decides,
    and None means that a person advances the steps.
    """

    steps: tuple[Step, ...]
    every_s: float | None = None
    guardrails: GuardrailPlan | None = None
    """Guardrails that the canary is judged on; None moves the rollout by time or by hand alone."""
    shadow_judge: str | None = None
    """Name of a model that compares the answers of shadow steps; None compares only counts."""
    gate: GatePlan | None = None
    """Scores that the canary needs before the first step; None begins without."""

    def __post_init__(self) -> None:
        """Raise `InvalidPlan` naming what is wrong."""
        _check_steps(self.steps)
        if self.every_s is not None and self.every_s <= 0:
            raise InvalidPlan(f"every_s must be above 0 seconds; got {self.every_s}")
        if self.shadow_judge is not None and not self.steps[0].shadow_percent:
            raise InvalidPlan('shadow_judge needs a shadow step, for example steps ["shadow:10", 25, 100]')


def _check_steps(steps: tuple[Step, ...]) -> None:
    shown = [step.as_json() for step in steps]
    shadow = list(takewhile(lambda step: step.shadow_percent, steps))
    weights = [step.weight for step in steps[len(shadow) :]]
    if not weights or weights[-1] != 100:
        raise InvalidPlan(f"steps must end at 100, for example 25,100; got {shown}")
    if any(step.shadow_percent for step in steps[len(shadow) :]):
        raise InvalidPlan(f"steps: shadow steps come before the others; got {shown}")
    if any(not 1 <= step.shadow_percent <= 100 or step.weight for step in shadow):
        raise InvalidPlan(f"steps: a shadow step copies from 1 to 100 percent; got {shown}")
    if any(not 1 <= weight <= 100 for weight in weights):
        raise InvalidPlan(f"steps are integer percents from 1 to 100; got {shown}")
    if any(low >= high for low, high in pairwise(weights)):
        raise InvalidPlan(f"steps must rise; got {shown}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """An attempt to make `canary` the stable revision of `adapter`."""

    id: str
    adapter: str
    canary: int
    stable: int | None
    """The stable revision when the rollout began; None for an adapter that had none."""
    plan: RolloutPlan
    step: int
    """Index into `plan.steps` of the current step."""
    state: RolloutState
    reason: str
    message: str
    actor: str
    created_at: float
    step_since: float
    """When the current step began to take traffic, or the rollout was created."""
    finished_at: float | None
    evidence: Mapping[str, Any] | None = None
    """The latest verdict of the judge as JSON; None before the first."""
    judged_at: float | None = None
    gate_result: Mapping[str, Any] | None = None
    """The scores by which the gate decided, as JSON; None before, and without a gate."""

    @property
    def canary_weight(self) -> int:
        """Percent of conversations that the canary answers now."""
        return self.plan.steps[self.step].weight if self.takes_traffic else 0

    @property
    def shadow_percent(self) -> int:
        """Percent of the stable's requests that are copied to the canary now."""
        return self.plan.steps[self.step].shadow_percent if self.takes_traffic else 0

    @property
    def shadow_judge(self) -> str | None:
        """Name of the model that compares both answers to a copied request; None for no such comparison."""
        return self.plan.shadow_judge

    @property
    def takes_traffic(self) -> bool:
        """Whether requests go to both sides, so that the canary can be compared with stable."""
        return self.state in (RolloutState.PROGRESSING, RolloutState.PAUSED)

    def check_open(self) -> None:
        """Raise `IllegalMove` if the rollout has ended: the message has how, when and by whom."""
        if self.finished_at is not None:
            name = f"rollout {self.id} of {self.adapter}@{self.canary}"
            raise IllegalMove(f"{name} was {self.state} already, at {utc(self.finished_at)} by {self.actor}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutEvent:
    """A recorded move of a rollout."""

    seq: int
    """Order of entry among the events of all rollouts."""
    rollout_id: str
    state: RolloutState
    step: int
    reason: str
    message: str
    actor: str
    at: float
    evidence: Mapping[str, Any] | None = None
    """The latest verdict at the time of the move, as JSON; None before the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutFigures:
    """Figures of all rollouts for monitoring."""

    moves: Mapping[tuple[str, str, str], int]
    """(adapter, state, reason) -> number of moves."""
    latest: tuple[Rollout, ...]
    """The last rollout of each adapter."""


def step_from(value: Any) -> Step:
    """Return the step for `25` or `"shadow:10"`; `InvalidPlan` for anything else."""
    if type(value) is int:
        return Step(weight=value)
    if isinstance(value, str) and value.startswith(SHADOW) and value.removeprefix(SHADOW).isdecimal():
        return Step(weight=0, shadow_percent=int(value.removeprefix(SHADOW)))
    raise InvalidPlan(
        f'steps are integer percents or shadow:PERCENT, for example ["shadow:10", 25, 100]; got {json_text(value)}'
    )


def plan_from(fields: Mapping[str, Any]) -> RolloutPlan:
    """Return the plan in a JSON object as `plan_as_json` writes it. `InvalidPlan` names the wrong field."""
    steps = fields.get("steps")
    if not isinstance(steps, list | tuple):
        raise InvalidPlan(f"steps must be a list of integer percents, for example [25, 100]; got {json_text(steps)}")
    every_s = fields.get("every_s")
    if every_s is not None and type(every_s) not in (int, float):
        raise InvalidPlan(f"every_s must be a number of seconds; got {json_text(every_s)}")
    guardrails = fields.get("guardrails")
    if not isinstance(guardrails, Mapping | None):
        raise InvalidPlan(f'guardrails must be an object such as {{"error_rate": 0.02}}; got {json_text(guardrails)}')
    shadow_judge = fields.get("shadow_judge")
    if not isinstance(shadow_judge, str | None):
        raise InvalidPlan(f"shadow_judge must be the name of a model; got {json_text(shadow_judge)}")
    gate = fields.get("gate")
    if not isinstance(gate, Mapping | None):
        raise InvalidPlan(
            f'gate must be an object such as {{"suite": "builtin:core", "min": 0.8}}; got {json_text(gate)}'
        )
    return RolloutPlan(
        steps=tuple(step_from(step) for step in steps),
        every_s=every_s,
        guardrails=None if guardrails is None else guardrails_from(guardrails),
        shadow_judge=shadow_judge,
        gate=None if gate is None else gate_from(gate),
    )


def plan_as_json(plan: RolloutPlan) -> dict[str, Any]:
    """Return *plan* as a JSON object."""
    return {
        "steps": [step.as_json() for step in plan.steps],
        "every_s": plan.every_s,
        "guardrails": None if plan.guardrails is None else guardrails_as_json(plan.guardrails),
        "shadow_judge": plan.shadow_judge,
        "gate": None if plan.gate is None else gate_as_json(plan.gate),
    }
