"""Batches in the registry: moves, leases, results, files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import sqlalchemy as sa

from registry.batches.batch import Batch, BatchDraft, BatchFault, BatchHold, BatchResult, BatchUsage
from registry.batches.batch_state import ENDED, MOVES, BatchState
from registry.batches.batch_tables import batch_results
from registry.database import Registry
from registry.errors import Conflict, IllegalMove, LeaseLost, NotFound

DRAFT = BatchDraft(
    endpoint="/v1/chat/completions",
    input_file="file-1",
    metadata={"night": "1"},
    output_expires_after_s=None,
    owner="ann",
    tenant="acme",
    key_id="key_1",
)
USAGE = BatchUsage(input_tokens=5, cached_tokens=1, output_tokens=3, reasoning_tokens=2)


def result(line: int, *, is_error: bool = False) -> BatchResult:
    return BatchResult(line=line, is_error=is_error, record=f'{{"line": {line}}}', usage=USAGE)


def held(registry: Registry, total: int = 3) -> BatchHold:
    """A batch in progress, and the lease on it."""
    batch = registry.batches.create(DRAFT, most_open=100)
    hold = registry.batches.claim(batch, "gateway-1")
    assert hold is not None
    registry.batches.begin(hold, total, "tiny")
    return hold


def lines(registry: Registry, file_id: str | None) -> list[str]:
    assert file_id is not None
    return registry.files.path(registry.files.get(file_id)).read_text().splitlines()


def actions(registry: Registry, batch: Batch) -> list[str]:
    return [entry.action for entry in reversed(registry.audit.list()) if entry.subject == batch.id]


def test_every_move_is_an_event_with_its_time(registry: Registry, advance: Callable[[float], None]) -> None:
    hold = held(registry)
    advance(5)
    registry.batches.record(hold, [result(2), result(1), result(3, is_error=True)])
    registry.batches.finalize(hold, BatchState.COMPLETED)
    done = registry.batches.finish(hold, BatchState.COMPLETED)
    assert actions(registry, done) == [
        "batch.create",
        "batch.claim",
        "batch.in_progress",
        "batch.finalizing",
        "batch.completed",
    ]
    assert (done.in_progress_at, done.finalizing_at, done.completed_at) == (1000.0, 1005.0, 1005.0)
    assert (done.total, done.completed, done.failed, done.unanswered) == (3, 2, 1, 0)
    assert done.usage == USAGE + USAGE + USAGE
    assert done.holder is None
    assert done.expires_at == 1000.0 + 86400


def test_the_files_have_each_line_once_in_the_order_of_the_input(registry: Registry) -> None:
    hold = held(registry)
    for group in ([result(3), result(1)], [result(1), result(2, is_error=True)]):
        registry.batches.record(hold, group)
    assert registry.batches.answered(hold.batch_id) == {1, 2, 3}
    registry.batches.finalize(hold, BatchState.EXPIRED)
    done = registry.batches.finish(hold, BatchState.EXPIRED, ['{"late": 4}'])
    assert lines(registry, done.output_file) == ['{"line": 1}', '{"line": 3}']
    assert lines(registry, done.error_file) == ['{"line": 2}', '{"late": 4}']
    file = registry.files.get(str(done.output_file), "acme")
    assert (file.purpose, file.filename) == ("batch_output", f"{done.id}_output.jsonl")
    assert file.expires_at == 1000.0 + 30 * 86400
    with registry.transactions.read() as tx:
        assert tx.execute(sa.select(batch_results)).first() is None


def test_a_batch_without_a_result_has_no_file(registry: Registry) -> None:
    batch = registry.batches.create(replace(DRAFT, output_expires_after_s=3600), most_open=1)
    hold = registry.batches.claim(batch, "gateway-1")
    assert hold is not None
    registry.batches.request_cancel(batch.id, "ann")
    done = registry.batches.finish(hold, BatchState.CANCELLED)
    assert (done.output_file, done.error_file, done.state) == (None, None, BatchState.CANCELLED)


def test_only_the_latest_lease_moves_a_batch(registry: Registry) -> None:
    old = held(registry)
    seen = registry.batches.get(old.batch_id)
    new = registry.batches.claim(seen, "gateway-2")
    assert new is not None
    assert registry.batches.claim(seen, "gateway-3") is None
    for late in (
        lambda: registry.batches.record(old, [result(1)]),
        lambda: registry.batches.renew(old),
        lambda: registry.batches.finalize(old, BatchState.COMPLETED),
        lambda: registry.batches.finish(old, BatchState.COMPLETED),
    ):
        with pytest.raises(LeaseLost):
            late()
    registry.batches.record(new, [result(1)])
    assert registry.batches.get(old.batch_id).completed == 1


def test_a_renewal_shows_itself_and_forbids_a_claim(registry: Registry) -> None:
    hold = held(registry)
    seen = registry.batches.get(hold.batch_id)
    assert registry.batches.renew(hold, note="no room").note == "no room"
    assert registry.batches.claim(seen, "gateway-2") is None
    registry.batches.release(hold)
    assert registry.batches.get(hold.batch_id).holder is None
    with pytest.raises(LeaseLost):
        registry.batches.renew(hold)


def test_what_was_ended_stays_so(registry: Registry) -> None:
    batch = registry.batches.create(DRAFT, most_open=1)
    hold = registry.batches.claim(batch, "gateway-1")
    assert hold is not None
    faults = [BatchFault(code="empty_file", message="the file has no line")]
    done = registry.batches.refuse(hold, faults)
    assert (done.state, list(done.errors)) == (BatchState.FAILED, faults)
    with pytest.raises(IllegalMove, match="it has ended"):
        registry.batches.request_cancel(batch.id, "ann")
    assert registry.batches.claim(done, "gateway-2") is None
    assert registry.batches.open() == []


def test_cancelling_twice_is_cancelling_once(registry: Registry) -> None:
    hold = held(registry)
    first = registry.batches.request_cancel(hold.batch_id, "ann", "acme")
    assert registry.batches.request_cancel(hold.batch_id, "bob") == first
    registry.batches.record(hold, [result(1)])  # what was under way still counts
    done = registry.batches.finish(hold, BatchState.CANCELLED)
    assert (done.state, lines(registry, done.output_file)) == (BatchState.CANCELLED, ['{"line": 1}'])


def test_a_key_has_so_many_open_batches_and_no_more(registry: Registry) -> None:
    first = registry.batches.create(DRAFT, most_open=1)
    with pytest.raises(Conflict, match="1 batches of this key"):
        registry.batches.create(DRAFT, most_open=1)
    registry.batches.create(replace(DRAFT, key_id="key_2"), most_open=1)
    hold = registry.batches.claim(first, "gateway-1")
    assert hold is not None
    registry.batches.refuse(hold, [])
    registry.batches.create(DRAFT, most_open=1)


def test_another_tenant_sees_no_batch(registry: Registry) -> None:
    batch = registry.batches.create(DRAFT, most_open=1)
    assert registry.batches.get(batch.id, "acme") == registry.batches.get(batch.id) == batch
    with pytest.raises(NotFound):
        registry.batches.get(batch.id, "other")
    with pytest.raises(NotFound):
        registry.batches.request_cancel(batch.id, "eve", "other")
    assert registry.batches.list(tenant="other") == []


def test_pages_follow_each_other(registry: Registry) -> None:
    made = [registry.batches.create(DRAFT, most_open=9) for _ in range(5)]
    ids = [batch.id for batch in reversed(made)]
    assert [batch.id for batch in registry.batches.list(limit=2)] == ids[:2]
    assert [batch.id for batch in registry.batches.list(limit=9, after=ids[1])] == ids[2:]
    with pytest.raises(NotFound):
        registry.batches.list(after="batch_none")


def test_an_open_batch_keeps_its_input_file(registry: Registry, advance: Callable[[float], None]) -> None:
    file = registry.files.add([b"{}\n"], filename="in.jsonl", purpose="batch", owner="ann", expires_after_s=10)
    batch = registry.batches.create(replace(DRAFT, input_file=file.id), most_open=1)
    advance(60)
    assert registry.files.remove_expired() == []
    with pytest.raises(Conflict, match=batch.id):
        registry.files.delete(file.id)
    hold = registry.batches.claim(batch, "gateway-1")
    assert hold is not None
    registry.batches.refuse(hold, [])
    assert registry.files.remove_expired() == [file.id]


def test_figures_count_batches_and_lines_that_wait(registry: Registry) -> None:
    hold = held(registry, total=10)
    registry.batches.record(hold, [result(1), result(2, is_error=True)])
    figures = registry.batches.figures()
    assert figures.states[BatchState.IN_PROGRESS] == 1
    assert figures.states[BatchState.COMPLETED] == 0
    assert figures.unanswered == 8


@pytest.mark.long
def test_many_results_are_written_page_by_page(registry: Registry) -> None:
    hold = held(registry, total=1203)
    registry.batches.record(hold, [result(line) for line in range(1203, 0, -1)])
    registry.batches.finalize(hold, BatchState.COMPLETED)
    done = registry.batches.finish(hold, BatchState.COMPLETED)
    written = lines(registry, done.output_file)
    assert len(written) == 1203
    assert all(int(a[9:-1]) < int(b[9:-1]) for a, b in pairwise(written))


def test_every_state_leads_to_an_end() -> None:
    reached = set(ENDED)
    for _ in MOVES:
        reached |= {state for state, further in MOVES.items() if further & reached}
    assert reached == set(BatchState)
