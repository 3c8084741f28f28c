"""The ends of batches as a webhook's receiver is told of them; a batch ends once, with the time in its row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from registry.batches.batch_state import ENDED, BatchState
from registry.batches.batch_tables import batches
from registry.deliveries import Outbox, batch_deliveries


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchEnd:
    """How and when a batch ended."""

    batch_id: str
    state: BatchState
    at: float


def _read(_: sa.Connection, row: Mapping[str, Any]) -> BatchEnd:
    return BatchEnd(batch_id=row["id"], state=BatchState(row["state"]), at=row[f"{row['state']}_at"])


BATCH_ENDS: Final = Outbox(
    events=batches,
    at=sa.func.coalesce(*(batches.c[f"{state}_at"] for state in sorted(ENDED))),
    tried=batch_deliveries,
    read=_read,
    which=batches.c.state.in_(sorted(ENDED)),
)
