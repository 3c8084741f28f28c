"""The stored responses: each with the input of its own turn, so that a conversation is the chain of its turns."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping
from typing import Any, Final

import orjson
import sqlalchemy as sa

from registry.columns import at, metadata, tenant
from registry.errors import NotFound, NotStorable
from registry.responses.types import StoredResponse
from registry.transactions import Transactions

responses: Final = sa.Table(
    "responses",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    tenant(),
    sa.Column("root", sa.Text, nullable=False),
    sa.Column("previous", sa.Text),
    sa.Column("content", sa.LargeBinary, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    at("created_at"),
    at("used_at"),
    sa.Index("ix_responses_tenant_used_at", "tenant", "used_at", "size"),
    sa.Index("ix_responses_root", "root"),
)
"""`root` is the id of the conversation's first response; `content` is packed JSON, which may hold any text."""

_FASTEST: Final = 1
_DAY_S: Final = 86400.0


class ResponseStore:
    """Stores responses; each belongs to the tenant whose key asked for it, and to nobody else."""

    def __init__(self, transactions: Transactions, most_rows: int, most_bytes: int, days: float) -> None:
        """A tenant has at most *most_rows* responses of *most_bytes* in all; those used least lately go first.

        A response that was neither made nor gone on from for so many *days* is removed by `forget_old`.
        """
        self._tx = transactions
        self._most_rows = most_rows
        self._most_bytes = most_bytes
        self._days = days

    def add(self, response: StoredResponse, of: str) -> None:
        """Store *response* for the tenant *of*; `NotStorable` if it is larger than all that a tenant may have."""
        content = _packed(response)
        if len(content) > self._most_bytes:
            raise NotStorable(
                f"the response takes {len(content)} bytes, more than the {self._most_bytes} that a tenant may store"
            )
        table, now = responses, self._tx.now()
        with self._tx.write() as tx:
            before = sa.select(table.c.root).where(table.c.id == response.previous, table.c.tenant == of)
            root = tx.execute(before).scalar() or response.id
            # A conversation that goes on stays whole: its earlier turns count as used now.
            tx.execute(sa.update(table).where(table.c.root == root, table.c.tenant == of).values(used_at=now))
            values = {"root": root, "previous": response.previous, "content": content, "size": len(content)}
            times = {"created_at": response.created_at, "used_at": now}
            tx.execute(sa.insert(table).values(id=response.id, tenant=of, **values, **times))
            self._keep_within_bounds(tx, of)

    def chain(self, of: str, response_id: str) -> tuple[StoredResponse, ...]:
        """Return the response and all that it goes on from, the oldest first; `NotFound` if one of them is missing."""
        table = responses
        with self._tx.read() as tx:
            asked = table.c.id == response_id
            root = tx.execute(sa.select(table.c.root).where(asked, table.c.tenant == of)).scalar()
            # A conversation may branch: the parents are read first, then the turns of the one branch.
            query = sa.select(table.c.id, table.c.previous).where(table.c.root == root, table.c.tenant == of)
            parents: dict[str, str | None] = {row.id: row.previous for row in tx.execute(query)}
            ids: list[str] = []
            wanted: str | None = response_id
            while wanted is not None:
                if wanted not in parents:
                    raise NotFound(wanted)
                ids.append(wanted)
                wanted = parents[wanted]
            found = tx.execute(sa.select(table).where(table.c.id.in_(ids))).mappings()
            by_id = {row["id"]: _unpacked(row) for row in found}
        return tuple(by_id[each] for each in reversed(ids))

    def those_of(self, of: str, ids: Collection[str]) -> dict[str, StoredResponse]:
        """Return the responses of the tenant *of* that have one of these *ids*, by their id."""
        table = responses
        query = sa.select(table).where(table.c.id.in_(sorted(ids)), table.c.tenant == of)
        with self._tx.read() as tx:
            return {row["id"]: _unpacked(row) for row in tx.execute(query).mappings()}

    def get(self, of: str, response_id: str) -> StoredResponse:
        """Return a response of the tenant *of*; `NotFound`."""
        table = responses
        query = sa.select(table).where(table.c.id == response_id, table.c.tenant == of)
        with self._tx.read() as tx:
            row = tx.execute(query).mappings().one_or_none()
        if row is None:
            raise NotFound(f"Response with id {response_id[:64]!r} not found.")
        return _unpacked(row)

    def delete(self, of: str, response_id: str) -> None:
        """Remove a response of the tenant *of*, which nothing can go on from any more; `NotFound`."""
        table = responses
        with self._tx.write() as tx:
            gone = tx.execute(sa.delete(table).where(table.c.id == response_id, table.c.tenant == of))
            if gone.rowcount != 1:
                raise NotFound(f"Response with id {response_id[:64]!r} not found.")

    def forget_old(self) -> int:
        """Remove the responses that nobody used for longer than they are kept; return how many."""
        old = responses.c.used_at < self._tx.now() - self._days * _DAY_S
        with self._tx.read() as tx:
            if tx.execute(sa.select(responses.c.id).where(old).limit(1)).first() is None:
                return 0
        with self._tx.write() as tx:
            return tx.execute(sa.delete(responses).where(old)).rowcount

    def _keep_within_bounds(self, tx: sa.Connection, of: str) -> None:
        table = responses
        held = sa.select(sa.func.count(), sa.func.sum(table.c.size)).where(table.c.tenant == of)
        rows, size = tx.execute(held).one()
        if rows <= self._most_rows and size <= self._most_bytes:
            return
        # Of one conversation the oldest turns go first; what is left of it can be read and not gone on from.
        latest = (table.c.used_at.desc(), table.c.created_at.desc(), table.c.id)
        ranked = (
            sa.select(
                table.c.id,
                sa.func.row_number().over(order_by=latest).label("place"),
                sa.func.sum(table.c.size).over(order_by=latest).label("bytes"),
            )
            .where(table.c.tenant == of)
            .subquery()
        )
        beyond = sa.or_(ranked.c.place > self._most_rows, ranked.c.bytes > self._most_bytes)
        tx.execute(sa.delete(table).where(table.c.id.in_(sa.select(ranked.c.id).where(beyond))))


def _packed(response: StoredResponse) -> bytes:
    content = {"body": response.body, "input": list(response.input_items)}
    return zlib.compress(orjson.dumps(content), level=_FASTEST)


def _unpacked(row: Mapping[str, Any] | sa.RowMapping) -> StoredResponse:
    content = orjson.loads(zlib.decompress(row["content"]))
    return StoredResponse(
        id=row["id"],
        previous=row["previous"],
        body=content["body"],
        input_items=tuple(content["input"]),
        created_at=row["created_at"],
    )
