"""Rollouts: states, legal moves and the plan of steps. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Any, Final

from registry.errors import IllegalMove, InvalidPlan


class RolloutState(StrEnum):
    """Where an attempt to make a revision stable stands."""

    PENDING = "pending"  # the canary revision is still loading
    PROGRESSING = "progressing"  # the canary takes the weight of the current step
    PAUSED = "paused"  # the weight holds until a person decides
    PROMOTED = "promoted"  # the canary became stable
    ABORTED = "aborted"  # stable kept all traffic

    @property
    def is_terminal(self) -> bool:
        """True when no move leads out of this state."""
        return not MOVES[self]


MOVES: Final[Mapping[RolloutState, frozenset[RolloutState]]] = {
    RolloutState.PENDING: frozenset({RolloutState.PROGRESSING, RolloutState.PROMOTED, RolloutState.ABORTED}),
    RolloutState.PROGRESSING: frozenset({RolloutState.PAUSED, RolloutState.PROMOTED, RolloutState.ABORTED}),
    RolloutState.PAUSED: frozenset({RolloutState.PROGRESSING, RolloutState.PROMOTED, RolloutState.ABORTED}),
    RolloutState.PROMOTED: frozenset(),
    RolloutState.ABORTED: frozenset(),
}


def check_move(current: RolloutState, to: RolloutState) -> None:
    """Raise `IllegalMove` unless the table allows *current* -> *to*."""
    if to not in MOVES[current]:
        legal = ", ".join(sorted(MOVES[current])) or "nothing: it has ended"
        raise IllegalMove(f"a rollout that is {current} cannot become {to}; possible: {legal}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutPlan:
    """Canary weights in percent, rising and ending at 100, and how long each but the last holds.

    `every_s` None means that a person advances the steps (`promote` ends them). At 100 the rollout promotes itself.
    """

    steps: tuple[int, ...]
    every_s: float | None = None

    def __post_init__(self) -> None:
        """Raise `InvalidPlan` naming what is wrong."""
        if not self.steps or self.steps[-1] != 100:
            raise InvalidPlan(f"steps must end at 100, for example 25,100; got {list(self.steps)}")
        if any(not 1 <= step <= 100 for step in self.steps):
            raise InvalidPlan(f"steps are integer percents from 1 to 100; got {list(self.steps)}")
        if any(low >= high for low, high in pairwise(self.steps)):
            raise InvalidPlan(f"steps must rise; got {list(self.steps)}")
        if self.every_s is not None and self.every_s <= 0:
            raise InvalidPlan(f"every_s must be above 0 seconds; got {self.every_s}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One attempt to make `canary` the stable revision of `adapter`."""

    id: str
    adapter: str
    canary: int
    stable: int | None
    """The stable revision when it began; None for an adapter that had none."""
    plan: RolloutPlan
    step: int
    """Index into `plan.steps` of the current step."""
    state: RolloutState
    reason: str
    message: str
    actor: str
    created_at: float
    step_since: float
    """When the current step began to take traffic (or the rollout was made)."""
    finished_at: float | None

    @property
    def canary_weight(self) -> int:
        """Percent of conversations that the canary answers now."""
        if self.takes_traffic:
            return self.plan.steps[self.step]
        return 0

    @property
    def shadow_percent(self) -> int:
        """Percent of the stable's requests that are copied to the canary now."""
        return 0

    @property
    def shadow_judge(self) -> str | None:
        """Name of the model that says which answer of a copied request is better; None asks nobody."""
        return None

    @property
    def takes_traffic(self) -> bool:
        """True while requests show how the canary compares with stable."""
        return self.state in (RolloutState.PROGRESSING, RolloutState.PAUSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutEvent:
    """A recorded move of a rollout."""

    rollout_id: str
    state: RolloutState
    step: int
    reason: str
    message: str
    actor: str
    at: float


def plan_from(fields: Mapping[str, Any]) -> RolloutPlan:
    """The plan of a JSON object with `steps` and maybe `every_s`; `InvalidPlan` if it is none."""
    steps = fields.get("steps")
    if not isinstance(steps, list | tuple) or not all(type(step) is int for step in steps):
        raise InvalidPlan(f"steps must be a list of integer percents, for example [25, 100]; got {steps!r}")
    every_s = fields.get("every_s")
    if every_s is not None and type(every_s) not in (int, float):
        raise InvalidPlan(f"every_s must be a number of seconds; got {every_s!r}")
    return RolloutPlan(steps=tuple(steps), every_s=every_s)
