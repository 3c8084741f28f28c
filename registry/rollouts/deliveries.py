"""The moves of rollouts as a webhook's receiver is told of them; each is written with its event."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from registry import tables
from registry.deliveries import Outbox, rollout_deliveries
from registry.rollouts.rollout import Rollout, RolloutEvent
from registry.rollouts.rollout_moves import event_of, find_rollout


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutMove:
    """An event of a rollout, and the rollout as it is now."""

    event: RolloutEvent
    rollout: Rollout


def _read(tx: sa.Connection, row: Mapping[str, Any]) -> RolloutMove:
    return RolloutMove(event=event_of(row), rollout=find_rollout(tx, row["rollout_id"]))


ROLLOUT_MOVES: Final = Outbox(
    events=tables.rollout_events, at=tables.rollout_events.c.at, tried=rollout_deliveries, read=_read
)
