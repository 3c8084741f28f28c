"""Batches in the database: callers create and cancel them, the gateway that holds the lease moves them."""

from __future__ import annotations

import builtins
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from secrets import token_hex
from typing import Any, Final

import sqlalchemy as sa

from registry.artifacts import ArtifactStore, Staging
from registry.audit import Act, write_audit
from registry.batches.batch import (
    OUTPUT_PURPOSE,
    WINDOW_S,
    Batch,
    BatchDraft,
    BatchFault,
    BatchFigures,
    BatchHold,
    BatchResult,
    BatchUsage,
)
from registry.batches.batch_rows import BatchMove, batch_of, find_batch, held_batch, move_batch, usage_row
from registry.batches.batch_state import ENDED, BatchState
from registry.batches.batch_tables import batch_results, batches
from registry.errors import Conflict
from registry.files.file_store import FileDraft, insert_file
from registry.transactions import Transactions, insert_or_ignore

OUTPUT_LASTS_S: Final = 30 * 86400
"""How long result files are kept where the creator of the batch gave no time, as at OpenAI."""
_PAGE_ROWS: Final = 500


class BatchStore:
    """Stores batches by id. Methods that take a `BatchHold` raise `LeaseLost` when it is not the batch's latest."""

    def __init__(self, transactions: Transactions, artifacts: ArtifactStore) -> None:
        self._tx = transactions
        self._artifacts = artifacts

    # called for callers

    def create(self, draft: BatchDraft, most_open: int) -> Batch:
        """Create a batch; `Conflict` if its key has *most_open* batches that have not ended."""
        now = self._tx.now()
        is_open = sa.and_(batches.c.key_id == draft.key_id, batches.c.state.not_in(ENDED))
        row: dict[str, Any] = asdict(draft) | {
            "id": f"batch_{token_hex(12)}",
            "state": BatchState.VALIDATING,
            "errors": [],
            "usage": usage_row(BatchUsage()),
            "note": "",
            "created_at": now,
            "expires_at": now + WINDOW_S,
            **dict.fromkeys(("total", "completed", "failed", "attempt", "beat"), 0),
        }
        with self._tx.write() as tx:
            # SQLite has one writer at a time. On PostgreSQL two requests at once may exceed the limit by one.
            if tx.execute(sa.select(sa.func.count()).where(is_open)).scalar_one() >= most_open:
                raise Conflict(f"{most_open} batches of this key have not ended; await or cancel one of them first")
            tx.execute(sa.insert(batches).values(row))
            detail = {"endpoint": draft.endpoint, "input_file": draft.input_file}
            write_audit(tx, Act(actor=draft.owner, action="batch.create", subject=row["id"], detail=detail), now)
            return find_batch(tx, row["id"])

    def get(self, batch_id: str, tenant: str | None = None) -> Batch:
        """Return the batch with this id, of *tenant* if one is given. Raises `NotFound`."""
        with self._tx.read() as tx:
            return find_batch(tx, batch_id, tenant)

    def list(self, limit: int = 20, after: str | None = None, tenant: str | None = None) -> builtins.list[Batch]:
        """Return batches, newest first; *after* is the last id of the previous page."""
        query = sa.select(batches).order_by(batches.c.seq.desc()).limit(limit)
        if tenant is not None:
            query = query.where(batches.c.tenant == tenant)
        with self._tx.read() as tx:
            if after is not None:
                find_batch(tx, after, tenant)
                last = sa.select(batches.c.seq).where(batches.c.id == after).scalar_subquery()
                query = query.where(batches.c.seq < last)
            return [batch_of(row) for row in tx.execute(query).mappings()]

    def request_cancel(self, batch_id: str, actor: str, tenant: str | None = None) -> Batch:
        """Begin to cancel; a batch that is cancelling already is returned as it is. `IllegalMove` once it has ended."""
        with self._tx.write() as tx:
            batch = find_batch(tx, batch_id, tenant, lock=True)
            if batch.state is BatchState.CANCELLING:
                return batch
            return move_batch(tx, batch, BatchMove(to=BatchState.CANCELLING, actor=actor), self._tx.now())

    def figures(self) -> BatchFigures:
        """Return how many batches are in each state, and how many of their lines wait."""
        states = sa.select(batches.c.state, sa.func.count()).group_by(batches.c.state)
        rest = sa.func.sum(batches.c.total - batches.c.completed - batches.c.failed)
        with self._tx.read() as tx:
            counts = {BatchState(state): count for state, count in tx.execute(states)}
            left = tx.execute(sa.select(rest).where(batches.c.state.not_in(ENDED))).scalar()
        return BatchFigures(states={state: counts.get(state, 0) for state in BatchState}, unanswered=int(left or 0))

    # called by gateways

    def open(self) -> builtins.list[Batch]:
        """Return the batches that have not ended, oldest first."""
        query = sa.select(batches).where(batches.c.state.not_in(ENDED)).order_by(batches.c.seq)
        with self._tx.read() as tx:
            return [batch_of(row) for row in tx.execute(query).mappings()]

    def claim(self, seen: Batch, holder: str) -> BatchHold | None:
        """Take over the batch as it was *seen*; None if it was moved or renewed since."""
        is_same = sa.and_(
            batches.c.id == seen.id,
            batches.c.attempt == seen.attempt,
            batches.c.beat == seen.beat,
            batches.c.state.not_in(ENDED),
        )
        hold = BatchHold(batch_id=seen.id, attempt=seen.attempt + 1, holder=holder)
        values = {"attempt": hold.attempt, "holder": holder, "beat": seen.beat + 1}
        with self._tx.write() as tx:
            if tx.execute(sa.update(batches).where(is_same).values(values)).rowcount != 1:
                return None
            detail = {"attempt": hold.attempt}
            write_audit(tx, Act(actor=holder, action="batch.claim", subject=seen.id, detail=detail), self._tx.now())
        return hold

    def renew(self, hold: BatchHold, note: str = "") -> Batch:
        """Renew the lease, and return the batch as it is now; *note* is the reason why it does not go on."""
        with self._tx.write() as tx:
            batch = held_batch(tx, hold)
            tx.execute(sa.update(batches).where(batches.c.id == batch.id).values(beat=batch.beat + 1, note=note))
            return find_batch(tx, batch.id)

    def release(self, hold: BatchHold) -> None:
        """Give the batch back, so that another gateway takes it over at once."""
        is_held = sa.and_(batches.c.id == hold.batch_id, batches.c.attempt == hold.attempt)
        with self._tx.write() as tx:
            tx.execute(sa.update(batches).where(is_held, batches.c.holder == hold.holder).values(holder=None))

    def begin(self, hold: BatchHold, total: int, model: str) -> Batch:
        """Begin to ask the *total* lines of the file, which is right."""
        with self._tx.write() as tx:
            batch = held_batch(tx, hold)
            values = {"total": total, "model": model}
            return move_batch(tx, batch, _move(hold, BatchState.IN_PROGRESS, values), self._tx.now())

    def refuse(self, hold: BatchHold, faults: Sequence[BatchFault], total: int = 0) -> Batch:
        """End the batch as failed, before any of its lines was asked."""
        with self._tx.write() as tx:
            batch = held_batch(tx, hold)
            values = {"errors": [asdict(fault) for fault in faults], "total": total}
            return move_batch(tx, batch, _move(hold, BatchState.FAILED, values), self._tx.now())

    def record(self, hold: BatchHold, results: Collection[BatchResult]) -> None:
        """Keep results of lines; a line that has one already keeps it, and is not counted again."""
        with self._tx.write() as tx:
            batch = held_batch(tx, hold)
            new = [each for each in results if insert_or_ignore(tx, batch_results, _result_row(batch.id, each))]
            failed = sum(each.is_error for each in new)
            values = {
                "completed": batch.completed + len(new) - failed,
                "failed": batch.failed + failed,
                "usage": usage_row(sum((each.usage for each in new), batch.usage)),
            }
            tx.execute(sa.update(batches).where(batches.c.id == batch.id).values(values))

    def answered(self, batch_id: str) -> set[int]:
        """Return the numbers of the lines that have a result."""
        query = sa.select(batch_results.c.line).where(batch_results.c.batch_id == batch_id)
        with self._tx.read() as tx:
            return set(tx.execute(query).scalars())

    def finalize(self, hold: BatchHold, outcome: BatchState, faults: Sequence[BatchFault] = ()) -> Batch:
        """Ask no further line: the batch is on its way to *outcome*."""
        with self._tx.write() as tx:
            batch = held_batch(tx, hold)
            values = {"outcome": outcome, "errors": [asdict(fault) for fault in faults]}
            return move_batch(tx, batch, _move(hold, BatchState.FINALIZING, values), self._tx.now())

    def finish(self, hold: BatchHold, to: BatchState, unasked: Iterable[str] = ()) -> Batch:
        """Write the files, end the batch and remove its results, or none of that; a file without lines is not made.

        *unasked* are lines for the error file, of requests without a result. Raises `StorageFull`.
        """
        with self._artifacts.publishing() as staging:
            outputs = _put(staging, self._records(hold.batch_id, is_error=False))
            errors = _put(staging, _chained(self._records(hold.batch_id, is_error=True), unasked))
            with staging.committing() as install, self._tx.write() as tx:
                batch, now = held_batch(tx, hold), self._tx.now()
                files = {
                    column: insert_file(tx, _file_draft(batch, ending), *stored, now).id
                    for column, ending, stored in (("output_file", "output", outputs), ("error_file", "error", errors))
                    if stored is not None
                }
                done = move_batch(tx, batch, _move(hold, to, files), now)
                tx.execute(sa.delete(batch_results).where(batch_results.c.batch_id == batch.id))
                install(tx)
        return done

    def _records(self, batch_id: str, *, is_error: bool) -> Iterator[str]:
        """Yield the records in the order of their lines, a page in a transaction of its own."""
        table, last = batch_results.c, 0
        query = sa.select(table.line, table.record).where(table.batch_id == batch_id, table.is_error == is_error)
        query = query.order_by(table.line).limit(_PAGE_ROWS)
        while True:
            with self._tx.read() as tx:
                page = tx.execute(query.where(table.line > last)).all()
            yield from (row.record for row in page)
            if len(page) < _PAGE_ROWS:
                return
            last = page[-1].line


def batches_reading(tx: sa.Connection, file_id: str) -> list[str]:
    """Return the ids of the batches that have not ended and read the file with this id."""
    query = sa.select(batches.c.id).where(batches.c.input_file == file_id, batches.c.state.not_in(ENDED))
    return [*tx.execute(query).scalars()]


def _move(hold: BatchHold, to: BatchState, values: Mapping[str, Any]) -> BatchMove:
    return BatchMove(to=to, actor=hold.holder, values=values)


def _result_row(batch_id: str, result: BatchResult) -> dict[str, Any]:
    return {"batch_id": batch_id, "line": result.line, "is_error": result.is_error, "record": result.record}


def _chained(first: Iterable[str], second: Iterable[str]) -> Iterator[str]:
    yield from first
    yield from second


def _put(staging: Staging, records: Iterator[str]) -> tuple[str, int] | None:
    """Stage a file of these lines and return its digest and size; None without a line."""
    first = next(records, None)
    if first is None:
        return None
    return staging.put_chunks(f"{record}\n".encode() for record in _chained([first], records))


def _file_draft(batch: Batch, ending: str) -> FileDraft:
    lasts_s = OUTPUT_LASTS_S if batch.output_expires_after_s is None else batch.output_expires_after_s
    return FileDraft(
        filename=f"{batch.id}_{ending}.jsonl",
        purpose=OUTPUT_PURPOSE,
        owner=batch.owner,
        tenant=batch.tenant,
        expires_after_s=lasts_s,
    )
