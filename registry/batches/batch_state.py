"""The states of a batch and the legal moves between them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from registry.errors import allow_move


class BatchState(StrEnum):
    """The states of a batch, as OpenAI names them."""

    VALIDATING = "validating"  # its file is being read
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"  # no further line is asked, its files are being written
    COMPLETED = "completed"
    FAILED = "failed"  # its file is wrong, or its key was revoked
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """True when no move leads out of this state."""
        return not MOVES[self]


_S = BatchState
MOVES: Final[Mapping[BatchState, frozenset[BatchState]]] = {
    _S.VALIDATING: frozenset({_S.IN_PROGRESS, _S.FAILED, _S.EXPIRED, _S.CANCELLING}),
    _S.IN_PROGRESS: frozenset({_S.FINALIZING, _S.CANCELLING}),
    _S.FINALIZING: frozenset({_S.COMPLETED, _S.FAILED, _S.EXPIRED, _S.CANCELLING}),
    _S.CANCELLING: frozenset({_S.CANCELLED}),
    _S.COMPLETED: frozenset(),
    _S.FAILED: frozenset(),
    _S.EXPIRED: frozenset(),
    _S.CANCELLED: frozenset(),
}
ENDED: Final = frozenset(state for state, further in MOVES.items() if not further)
"""States that no move leads out of."""


def check_move(current: BatchState, to: BatchState) -> None:
    """Raise `IllegalMove` unless the table allows *current* -> *to*."""
    allow_move("a batch", MOVES, current, to)
