"""The check of a training file before its method is known: one method's rows, whichever it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import IO, Any, Final

from registry.contracts.fine_tune_spec import FineTuneSpec
from registry.contracts.job_kinds import FINE_TUNING_KINDS
from registry.contracts.training_file import filled_lines
from registry.contracts.training_json import parse_object, shown
from registry.errors import TrainingFileInvalid

MOST_LINE_BYTES: Final = 16 * 1024 * 1024
"""Longest line of a training file: room for one picture of the largest size, or for many usual ones."""
_PIECE_BYTES: Final = 1 << 20


def check_training_upload(file: IO[bytes]) -> tuple[type[FineTuneSpec], int]:
    """Return the first method whose rows *file* has, and their number; `TrainingFileInvalid` names the first faults.

    The fields of the first line decide which methods come into question, and whose faults are reported.
    """
    check_line_lengths(file)
    faults = []
    for kind in _kinds_for(_first_line(file)):
        file.seek(0)
        try:
            return kind, kind.count_rows(file, None)
        except TrainingFileInvalid as exc:
            faults.append(exc)
    raise faults[0]


def check_line_lengths(file: IO[bytes]) -> None:
    """Raise `TrainingFileInvalid` for a line of more than `MOST_LINE_BYTES`; the file is read in pieces.

    A line is parsed as a whole, which takes some seven times its bytes.
    """
    file.seek(0)
    number, length = 1, 0
    while piece := file.read(_PIECE_BYTES):
        first = piece.find(b"\n")
        if length + (len(piece) if first < 0 else first) > MOST_LINE_BYTES:
            raise TrainingFileInvalid(
                f"line {number}: has more than {MOST_LINE_BYTES:,} bytes; upload large pictures as files of their own, "
                "with the purpose vision, and name them by their ids"
            )
        number += piece.count(b"\n")
        length = length + len(piece) if first < 0 else len(piece) - piece.rfind(b"\n") - 1


def _first_line(file: IO[bytes]) -> Mapping[str, Any] | None:
    """Return the object of the first line; None for a file without one."""
    file.seek(0)
    for number, line in filled_lines(file):
        return parse_object(line, f"line {number}")
    return None


def _kinds_for(line: Mapping[str, Any] | None) -> Sequence[type[FineTuneSpec]]:
    """Return the methods that *line* may be for, those of which it has the most fields first."""
    if line is None:  # any method reports the empty file
        return FINE_TUNING_KINDS[:1]
    shared = {kind: _most_marks(kind, line) for kind in FINE_TUNING_KINDS}
    found = [kind for kind in FINE_TUNING_KINDS if shared[kind]]
    if not found:
        raise TrainingFileInvalid(f"line 1: no method reads the fields {shown(sorted(line))}; {_formats()}")
    return sorted(found, key=lambda kind: -shared[kind])


def _most_marks(kind: type[FineTuneSpec], line: Mapping[str, Any]) -> int:
    return max((len(marks) for marks in kind.line_marks if marks <= line.keys()), default=0)


def _formats() -> str:
    methods: dict[frozenset[str], list[str]] = {}
    for kind in FINE_TUNING_KINDS:
        for marks in kind.line_marks:
            methods.setdefault(marks, []).append(kind.method_name())
    return "; ".join(f"{', '.join(names)}: {' and '.join(sorted(marks))}" for marks, names in methods.items())
