"""The states of a rollout and the legal moves between them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from registry.errors import allow_move


class RolloutState(StrEnum):
    """The state of an attempt to make a revision stable."""

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
    allow_move("a rollout", MOVES, current, to)
