"""The scores of a quantized checkpoint beside those of its model in full precision, and the gate's verdict. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from pydantic import BaseModel, ConfigDict

from registry.contracts.quantizations.load_test_result import LOAD_TEST, LoadTestResult

REPORT: Final = "quantization"
"""Key of the report in provenance, and in the data of an event of the job."""
CALIBRATION_TEXT: Final = "calibration"
TEXTS: Final = ("english", "chinese", CALIBRATION_TEXT)
"""Names of the texts that perplexity is measured on."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class TextScore(_Part):
    """The perplexity of a text."""

    before: float
    after: float
    rise: float
    """`after / before - 1`."""


class Gate(_Part):
    """The limits of the gate, and its verdict."""

    max_rise: float
    waived: tuple[str, ...]
    """Texts whose rise was not judged, and `load-test` where no engine was, as the job's owner asked."""
    refused: tuple[str, ...]
    """Texts whose perplexity rose by more; empty where the gate passed."""

    @property
    def passed(self) -> bool:
        """Whether the checkpoint is published."""
        return not self.refused


class QuantizationReport(_Part):
    """All that was measured of a quantized checkpoint."""

    scheme: str
    group_size: int | None
    bits_per_weight: float
    """Bits of all stored tensors, scales and what is not quantized included, for each weight of the model."""
    linear_bits_per_weight: float | None
    """The same for the quantized layers alone; None for a GGUF file."""
    size_bytes: int
    """Size of the files with weights."""
    base_size_bytes: int
    perplexity: Mapping[str, TextScore]
    window: int
    """Tokens that the model reads at once."""
    stride: int
    """Tokens between the beginnings of two windows."""
    scored_tokens: Mapping[str, int]
    texts: Mapping[str, str]
    """Name of a bundled text -> its SHA-256."""
    agreement: float
    """Share of the tokens of greedy answers that the quantized model chooses too, given the same beginning."""
    same_answers: float
    """Share of greedy answers that are the same as a whole."""
    prompts: int
    answer_tokens: int
    samples: int
    """Rows that calibrated."""
    scored_rows: int
    """Rows of the calibration file that were scored; none of them calibrated."""
    gate: Gate
    load_tests: Mapping[str, LoadTestResult] = {}
    """Kind of engine -> what became of the checkpoint there before it was published."""

    @property
    def verdict(self) -> str:
        """The outcome as a sentence with its numbers."""
        scores = ", ".join(_shown(name, self.perplexity[name]) for name in TEXTS if name in self.perplexity)
        limit = f"{self.gate.max_rise:.1%}"
        if self.gate.passed:
            but = f", {', '.join(self.gate.waived)} not judged" if self.gate.waived else ""
            return f"Perplexity {scores}: within the limit of {limit}{but}"
        return f"perplexity rose by more than {limit} on {', '.join(self.gate.refused)}: {scores}"


def score(before: float, after: float) -> TextScore:
    """Return the score of a text."""
    return TextScore(before=before, after=after, rise=after / before - 1)


def judge(scores: Mapping[str, TextScore], max_rise: float, waived: Iterable[str]) -> Gate:
    """Return the gate's verdict; a rise that is no number is above every limit."""
    left_out = tuple(name for name in (*TEXTS, LOAD_TEST) if name in set(waived))
    refused = tuple(name for name, each in scores.items() if name not in left_out and not each.rise <= max_rise)
    return Gate(max_rise=max_rise, waived=left_out, refused=refused)


def _shown(name: str, each: TextScore) -> str:
    return f"{name} {each.before:.2f} to {each.after:.2f} ({each.rise:+.1%})"
