"""The results of trying a quantized checkpoint on engines, and whether they let it pass. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict

LOAD_TEST: Final = "load-test"
"""Name by which `waive` lets a checkpoint pass whatever becomes of it on engines."""


class LoadTestOutcome(StrEnum):
    """The end of trying a checkpoint on a kind of engine. The values are those of `engines.proving.load_test`."""

    SERVED = "served"
    REFUSED = "refused"
    NOT_INSTALLED = "not_installed"
    FAILED = "failed"
    DIFFERS = "differs"

    @property
    def words(self) -> str:
        """The outcome as people read it."""
        return self.replace("_", " ")


HINDERS: Final = frozenset({LoadTestOutcome.FAILED, LoadTestOutcome.DIFFERS})
"""Outcomes that speak against the checkpoint. The others mean that this machine could not try it."""


class LoadTestResult(BaseModel):
    """The result of trying a checkpoint on a kind of engine.

    The engines write it as JSON (`engines.proving.load_test.LoadTest`), the trainer reads it, and neither imports the
    other; engines and registry import nothing of ours. `tests/engines/proving` holds both classes to the same fields.
    """

    model_config = ConfigDict(frozen=True)

    kind: str
    outcome: LoadTestOutcome
    reason: str = ""
    """Why it is not served, in the words of the driver or the server."""
    ready_s: float | None = None
    memory_bytes: int | None = None
    """Resident memory of the server's processes."""
    tokens_per_s: float | None = None
    """Answers one after the other, prompts included."""
    loaded_tokens_per_s: float | None = None
    """All prompts at once."""
    prompts: int = 0
    same_beginnings: int | None = None
    """Answers that begin with the same word as those of the model in full precision."""
    same_answers: int | None = None
    common_words: float | None = None
    """Mean share of an answer's words up to the first other one."""
    at: float | None = None
    """When it was tried, in unix seconds."""

    @property
    def sentence(self) -> str:
        """The result as a sentence with its numbers."""
        if self.outcome is not LoadTestOutcome.SERVED:
            return f"{self.kind} {self.outcome.words}: {self.reason}"
        return (
            f"{self.kind} served it: {self.same_beginnings} of {self.prompts} greedy answers begin like those of the "
            f"model in full precision, {self.same_answers} are the same; {self.tokens_per_s:g} tokens/s, "
            f"{self.loaded_tokens_per_s:g} with all at once"
        )


def hindrances(results: Mapping[str, LoadTestResult]) -> list[LoadTestResult]:
    """Return the results that speak against the checkpoint."""
    return [each for each in results.values() if each.outcome in HINDERS]
