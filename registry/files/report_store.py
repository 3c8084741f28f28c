"""Reports on training files, made by whichever gateway is free, and reviews that people signed.

A report belongs to the bytes of a file, so files with the same bytes share it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, Final

import sqlalchemy as sa

from registry import tables
from registry.audit import Act, write_audit
from registry.files.file_store import file_of
from registry.files.report_tables import data_reviews, file_reports
from registry.states import ReportState
from registry.transactions import Transactions, upsert
from registry.types import File

OPEN: Final = (ReportState.WAITING, ReportState.WORKING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """A sample of a file's rows that a person has read."""

    id: str
    digest: str
    tenant: str
    reviewer: str
    seed: int
    verdicts: Sequence[Mapping[str, Any]]
    at: float


class ReportStore:
    """Stores reports and reviews by the digest of a file's bytes."""

    def __init__(self, transactions: Transactions) -> None:
        self._tx = transactions

    def open(self) -> list[File]:
        """Return the files that wait for a report, or get one now, oldest first."""
        files = tables.files
        query = sa.select(files).where(files.c.report_state.in_(OPEN)).order_by(files.c.seq).limit(100)
        with self._tx.read() as tx:
            return [file_of(row) for row in tx.execute(query).mappings()]

    def claim(self, seen: File) -> bool:
        """Begin an attempt at the file's report; False if another process began or renewed one since it was *seen*."""
        values = {"report_state": ReportState.WORKING, "report_attempt": seen.report_attempt + 1}
        return self._set(seen, values)

    def renew(self, held: File) -> bool:
        """Show that the attempt goes on; False if it is another's now. *held* is the file as of the last beat."""
        return self._set(held, {"report_beat": held.report_beat + 1})

    def finish(self, file: File, report: Mapping[str, Any], message: str) -> None:
        """Store the report and what it comes to, unless the file was deleted meanwhile.

        An attempt that is no longer the newest has the same report.
        """
        with self._tx.write() as tx:
            # Locked, so that a deletion at this moment sees the report and removes it.
            same = sa.select(tables.files.c.id).where(tables.files.c.digest == file.digest).with_for_update()
            if not tx.execute(same).all():
                return
            upsert(tx, file_reports, ("digest",), {"digest": file.digest, "report": dict(report), "at": self._tx.now()})
            self._end(tx, file.digest, ReportState.DONE, message)

    def fail(self, file: File, message: str) -> None:
        """Record why there is no report."""
        with self._tx.write() as tx:
            self._end(tx, file.digest, ReportState.FAILED, message)

    def give_back(self, held: File) -> None:
        """Let another process begin at once."""
        self._set(held, {"report_state": ReportState.WAITING})

    def report(self, digest: str) -> Mapping[str, Any] | None:
        """Return the report on these bytes; None without one."""
        with self._tx.read() as tx:
            found = tx.execute(sa.select(file_reports.c.report).where(file_reports.c.digest == digest)).scalar()
        return None if found is None else dict(found)

    def known_of(self, digest: str, tenant: str) -> dict[str, Any]:
        """Return what a revision remembers of the data that it was trained on: findings, and who signed a review."""
        report, reviews = self.report(digest), self.reviews(digest, tenant)
        known: dict[str, Any] = {}
        if report is not None:
            known["findings"] = [f"{finding['level']}: {finding['text']}" for finding in report["findings"]]
        if reviews:
            newest = reviews[0]
            bad = sum(verdict["verdict"] == "bad" for verdict in newest.verdicts)
            known["review"] = {
                "id": newest.id,
                "reviewer": newest.reviewer,
                "signed_at": newest.at,
                "seed": newest.seed,
                "rows": len(newest.verdicts),
                "bad": bad,
            }
        return known

    def sign(self, digest: str, tenant: str, reviewer: str, seed: int, verdicts: Sequence[Mapping[str, Any]]) -> Review:
        """Record a person's judgement of the drawn rows of these bytes."""
        row: dict[str, Any] = {
            "id": f"review-{token_hex(12)}",
            "digest": digest,
            "tenant": tenant,
            "reviewer": reviewer,
            "seed": seed,
            "verdicts": [dict(verdict) for verdict in verdicts],
            "at": self._tx.now(),
        }
        with self._tx.write() as tx:
            tx.execute(sa.insert(data_reviews).values(row))
            detail = {"sha256": digest, "rows": len(verdicts)}
            write_audit(tx, Act(actor=reviewer, action="data.review", subject=row["id"], detail=detail), row["at"])
        return Review(**row)

    def reviews(self, digest: str, tenant: str | None = None) -> list[Review]:
        """Return the reviews of these bytes, of *tenant* if one is given, newest first."""
        query = sa.select(data_reviews).where(data_reviews.c.digest == digest).order_by(data_reviews.c.seq.desc())
        if tenant is not None:
            query = query.where(data_reviews.c.tenant == tenant)
        with self._tx.read() as tx:
            return [
                Review(**{name: value for name, value in row.items() if name != "seq"})
                for row in tx.execute(query).mappings()
            ]

    def _set(self, seen: File, values: Mapping[str, Any]) -> bool:
        files = tables.files
        is_same = sa.and_(
            files.c.id == seen.id,
            files.c.report_state == seen.report_state,
            files.c.report_attempt == seen.report_attempt,
            files.c.report_beat == seen.report_beat,
        )
        with self._tx.write() as tx:
            return tx.execute(sa.update(files).where(is_same).values(values)).rowcount == 1

    @staticmethod
    def _end(tx: sa.Connection, digest: str, state: ReportState, message: str) -> None:
        files = tables.files
        is_open = sa.and_(files.c.digest == digest, files.c.report_state.in_(OPEN))
        tx.execute(sa.update(files).where(is_open).values(report_state=state, report_message=message))
