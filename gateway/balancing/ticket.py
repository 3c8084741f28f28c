"""A request's place in the queue before its pool."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from registry.types import Priority


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Who wants to begin, how urgent it is, and until when it is of use."""

    key: str
    """Id of the API key; empty without one."""
    priority: Priority
    deadline: float
    """Monotonic seconds."""


class Stage(Enum):
    """How far a request has come in its pool."""

    WAITING = auto()
    RUNNING = auto()
    LEFT = auto()


@dataclass(slots=True, eq=False)
class Ticket:
    """One request's place in its pool, from `enter` to `leave`."""

    pool: str
    claim: Claim
    on_turn: Callable[[], None]
    on_expired: Callable[[], None]
    stage: Stage = Stage.WAITING

    @property
    def is_running(self) -> bool:
        """True from its turn until it leaves."""
        return self.stage is Stage.RUNNING
