"""The rows of a calibration file as tokens: those that calibrate, and those that the result is scored on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from registry.contracts.quantizations.quantization_report import CALIBRATION_TEXT
from registry.contracts.quantizations.quantize_spec import QuantizeSpec
from registry.contracts.quantizations.rows_used import rows_used
from registry.contracts.training_formats import CHATS_OR_TEXTS, read_lines
from trainer.data.dataset import ChatEncoder
from trainer.data.encoded_row import IGNORED, EncodedRow
from trainer.errors import JobFailed
from trainer.scoring.bundled_texts import TEXTS


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationTokens:
    """Everything that the program reads, as tokens."""

    calibration: list[list[int]]
    texts: dict[str, list[list[int]]]
    prompts: list[list[int]]


def calibration_tokens(spec: QuantizeSpec, path: Path, encoder: ChatEncoder) -> CalibrationTokens:
    """Return the drawn rows of the file at *path* by the base's chat template; each is cut at `max_length` tokens.

    A prompt of the agreement is a scored row up to its last answer. `JobFailed` names a line that cannot be encoded.
    """
    with path.open("rb") as lines:
        rows = list(read_lines(lines, CHATS_OR_TEXTS))
    used = rows_used(len(rows), spec.samples, spec.seed)
    encoded = {at: encoder.encode(rows[at])[-1] for at in (*used.calibration, *used.scored)}
    scored = [encoded[at] for at in used.scored]
    texts = {name: [encoder.text_ids(text.read_text("utf-8"))] for name, text in TEXTS.items()}
    texts[CALIBRATION_TEXT] = [_cut(row, spec.max_length) for row in scored]
    prompts = [prompt for row in scored if (prompt := _prompt(row)) and len(prompt) <= spec.max_length]
    if not prompts:
        raise JobFailed(
            "invalid_training_file",
            f"no scored row has an answer that begins within {spec.max_length} tokens; a larger max_length may help",
            "max_length",
        )
    return CalibrationTokens(
        calibration=[_cut(encoded[at], spec.max_length) for at in used.calibration], texts=texts, prompts=prompts
    )


def _cut(row: EncodedRow, longest: int) -> list[int]:
    return list(row.input_ids[:longest])


def _prompt(row: EncodedRow) -> list[int]:
    """Return the tokens before the last run of learnt ones; none where nothing is before it."""
    at = len(row.labels)
    while at and row.labels[at - 1] == IGNORED:
        at -= 1
    while at and row.labels[at - 1] != IGNORED:
        at -= 1
    return list(row.input_ids[:at])
