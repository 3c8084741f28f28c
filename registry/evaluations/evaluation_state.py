"""The states of an evaluation and the legal moves between them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from registry.errors import IllegalMove


class EvaluationState(StrEnum):
    """The states of an evaluation."""

    QUEUED = "queued"  # no gateway has begun it
    RUNNING = "running"
    COMPLETED = "completed"  # every row has an answer and a score
    FAILED = "failed"  # a row has none, or the model changed meanwhile; there is no score
    CANCELLED = "cancelled"

    @property
    def has_ended(self) -> bool:
        """Whether the evaluation moves on only if a person resumes it."""
        return self in ENDED


_S = EvaluationState
MOVES: Final[Mapping[EvaluationState, frozenset[EvaluationState]]] = {
    _S.QUEUED: frozenset({_S.RUNNING, _S.FAILED, _S.CANCELLED}),
    _S.RUNNING: frozenset({_S.RUNNING, _S.COMPLETED, _S.FAILED, _S.CANCELLED}),
    _S.COMPLETED: frozenset(),
    _S.FAILED: frozenset({_S.QUEUED}),
    _S.CANCELLED: frozenset({_S.QUEUED}),
}
"""State -> the states that it may move to; running to running is another gateway that takes over."""
ENDED: Final = frozenset({_S.COMPLETED, _S.FAILED, _S.CANCELLED})


def check_move(current: EvaluationState, to: EvaluationState) -> None:
    """Raise `IllegalMove` unless the table allows *current* -> *to*."""
    if to not in MOVES[current]:
        legal = ", ".join(sorted(MOVES[current])) or "nothing, as it has all its answers"
        raise IllegalMove(f"an evaluation that is {current} cannot become {to}; possible: {legal}")
