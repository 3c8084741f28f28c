"""Results of load tests as rows of a table."""

from __future__ import annotations

from typing import Final

from gateway.cli.output import Column
from registry.contracts.quantizations.load_test_result import LoadTestResult

TRIED: Final = (
    Column("KIND"),
    Column("OUTCOME"),
    Column("SAME BEGINNINGS"),
    Column("SAME ANSWERS", 3),
    Column("TOKENS/S"),
    Column("AT ONCE", 2),
    Column("MEMORY"),
    Column("READY S", 4),
    Column("REASON", 1, below=True),
)


def tried_row(found: LoadTestResult) -> tuple[str | float | None, ...]:
    """Return the row of a kind of engine."""
    memory = None if found.memory_bytes is None else f"{found.memory_bytes / 1e9:.2f} GB"
    return (
        found.kind,
        found.outcome.words,
        _of(found.same_beginnings, found.prompts),
        _of(found.same_answers, found.prompts),
        found.tokens_per_s,
        found.loaded_tokens_per_s,
        memory,
        found.ready_s,
        found.reason or None,
    )


def _of(part: int | None, whole: int) -> str | None:
    return None if part is None else f"{part} of {whole}"
