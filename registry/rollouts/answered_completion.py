"""Answers that may be rated: each is remembered with the cell of the rollout that it is evidence for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import orjson
import sqlalchemy as sa

from registry.rollouts import answer_tables
from registry.rollouts.tally import Cell, Side

_CELL: Final = ("rollout_id", "step", "side", "replica")
_REMEMBERED: Final = ("rollout_id", "step", "side", "id", "tenant", "served_name", "replica", "at")
_INTO: Final = f"INSERT INTO completions ({', '.join(_REMEMBERED)}) SELECT "
_OVER: Final = " ON CONFLICT (tenant, id) DO UPDATE SET " + ", ".join(
    f"{name} = excluded.{name}" for name in _REMEMBERED if name not in ("tenant", "id")
)
# Every answer takes a row. One statement for those of a second costs a third of one for each row, and the thread that
# executes it leaves the interpreter to the event loop until all are stored.
_REMEMBER: Final[Mapping[str, sa.TextClause]] = {
    "sqlite": sa.text(
        _INTO
        + ", ".join([f"json_extract(value, '$[{number}]')" for number in range(len(_REMEMBERED))])
        + " FROM json_each(:rows) WHERE true"
        + _OVER
    ),
    "postgresql": sa.text(
        _INTO
        + "sent ->> 0, CAST(sent ->> 1 AS integer), sent ->> 2, sent ->> 3, sent ->> 4, sent ->> 5, sent ->> 6,"
        + " CAST(sent ->> 7 AS double precision) FROM json_array_elements(CAST(:rows AS json)) AS each (sent)"
        + _OVER
    ),
}


class AnsweredCompletion(NamedTuple):
    """An answer that may be rated, identified by the `id` in its body. A tuple, as there is one for each answer."""

    id: str
    tenant: str
    """Whose keys may rate the answer."""
    served_name: str
    replica: str
    cell: Cell | None
    """The cell that the answer is evidence for; None for an answer that is not evidence for a rollout."""
    at: float


def remember(tx: sa.Connection, answered: Iterable[AnsweredCompletion]) -> None:
    """Store that these completions may be rated; of two with one id and tenant, the later one."""
    last = {(completion.tenant, completion.id): completion for completion in answered}
    if not last:
        return
    rows = [(*columns_of(each.cell).values(), *each[:4], each.at) for each in last.values()]
    tx.execute(_REMEMBER[tx.dialect.name], {"rows": orjson.dumps(rows).decode()})


def answers_beyond_bound(tx: sa.Connection, most: int) -> list[sa.Delete]:
    """Return what deletes all but the newest *most* answers of each tenant, evidence and others apart."""
    table = answer_tables.completions
    is_evidence = table.c.rollout_id.is_not(None)
    counts = sa.select(table.c.tenant, is_evidence, sa.func.count()).group_by(table.c.tenant, is_evidence)
    deletes = []
    for tenant, evidence, count in tx.execute(counts):
        if count > most:
            kind = sa.and_(table.c.tenant == tenant, is_evidence if evidence else table.c.rollout_id.is_(None))
            newest = sa.select(table.c.at).where(kind).order_by(table.c.at.desc()).offset(most).limit(1)
            deletes.append(sa.delete(table).where(kind, table.c.at <= tx.execute(newest).scalar_one()))
    return deletes


def cell_in(row: sa.RowMapping) -> Cell | None:
    """Return the cell in the columns of *row*; None where they are NULL."""
    if row["rollout_id"] is None:
        return None
    return Cell(**({name: row[name] for name in _CELL} | {"side": Side(row["side"])}))


def columns_of(cell: Cell | None) -> dict[str, Any]:
    """Return the columns of the rollout, all NULL outside of one."""
    if cell is None:
        return {"rollout_id": None, "step": None, "side": None}
    return {"rollout_id": cell.rollout_id, "step": cell.step, "side": cell.side}
