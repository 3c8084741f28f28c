"""The meaning of a failed recipe's error for its job. Pure, and without the libraries that raise such errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from registry.disk import FULL_ERRNOS
from registry.errors import TrainingFileInvalid
from trainer.errors import JobFailed
from trainer.progress import RecipeFailed

_FULL: Final = (
    *(f"(os error {number})" for number in FULL_ERRNOS),  # safetensors, which is written in Rust
    "inline_container.cc",  # the writer of torch.save, whatever went wrong with its file
    "PytorchStreamWriter failed writing",
    "iostream error",  # its file's stream, on a file system that is full
)
_NO_MEMORY: Final = ("can't allocate memory", "out of memory", "bad_alloc", "Cannot allocate memory")


def failure_of(exc: Exception) -> RecipeFailed:
    """Return the end of a job whose recipe raised *exc*."""
    if isinstance(exc, JobFailed):
        return RecipeFailed(code=exc.code, message=exc.message, param=exc.param)
    if isinstance(exc, TrainingFileInvalid):
        return RecipeFailed(code="invalid_training_file", message=str(exc), param="training_file")
    for cause in _causes(exc):
        if (isinstance(cause, OSError) and cause.errno in FULL_ERRNOS) or _says(cause, _FULL):
            return RecipeFailed(
                code="storage_full", message=f"no space was left for a checkpoint or the result: {cause}"
            )
        if isinstance(cause, MemoryError) or _says(cause, _NO_MEMORY):
            return RecipeFailed(
                code="out_of_memory",
                message=f"memory ran out; a smaller batch_size or max_length needs less ({_line_of(cause)})",
                param="hyperparameters",
            )
    return RecipeFailed(code="trainer_error", message=_line_of(exc))


def _causes(exc: BaseException) -> Iterator[BaseException]:
    """Yield *exc* and what it was raised from, outermost first."""
    cause: BaseException | None = exc
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _says(exc: BaseException, marks: tuple[str, ...]) -> bool:
    text = str(exc)
    return any(mark in text for mark in marks)


def _line_of(exc: BaseException) -> str:
    return " ".join(f"{type(exc).__name__}: {exc}".split())[:500]
