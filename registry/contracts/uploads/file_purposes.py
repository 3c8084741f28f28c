"""The catalog of purposes of uploaded files, as OpenAI names them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Final

from registry.contracts.uploads.training_upload import check_training_upload

_DAY_S: Final = 86400


def _any_bytes(_: IO[bytes]) -> None:
    return


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePurpose:
    """The purpose of an upload."""

    name: str
    check: Callable[[IO[bytes]], object] = _any_bytes
    """Raises `TrainingFileInvalid` for bytes that are of no use for the purpose."""
    expires_after_s: int | None = None
    """How long a file is kept whose sender gave no time; None keeps it until it is deleted."""


BATCH: Final = FilePurpose(name="batch", expires_after_s=30 * _DAY_S)
TRAINING: Final = FilePurpose(name="fine-tune", check=check_training_upload)

PURPOSES: Final[Mapping[str, FilePurpose]] = {
    purpose.name: purpose
    for purpose in (
        FilePurpose(name="assistants"),
        BATCH,
        TRAINING,
        FilePurpose(name="vision"),
        FilePurpose(name="user_data"),
        FilePurpose(name="evals"),
    )
}
"""Name -> purpose, of those that a caller may give; `fine-tune-results` is for files that jobs make."""
