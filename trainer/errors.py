"""Errors of the trainer. Arguments are strings only: errors cross processes by pickle."""

from __future__ import annotations


class TrainerError(Exception):
    """Base of every error of this package."""


class JobFailed(TrainerError):
    """The job cannot succeed, now or on another worker; holds a code, a message for people, and the field at fault.

    The arguments are those of `registry.jobs.job.JobError`; `param` is empty when no single field is at fault.
    """

    def __init__(self, code: str, message: str, param: str = "") -> None:
        super().__init__(code, message, param)
        self.code = code
        self.message = message
        self.param = param

    def __str__(self) -> str:
        return self.message


class RowUnfit(JobFailed):
    """A row of a file does not fit the job, which may go on without it; `tokens` is its length if that is the cause."""

    def __init__(self, code: str, message: str, tokens: int | None = None) -> None:
        super().__init__(code, message, "training_file")
        self.tokens = tokens


class Diverged(JobFailed):
    """Training left the numbers: a loss, the weights or what the model answers is not finite."""

    def __init__(self, what: str) -> None:
        super().__init__("diverged", f"{what}; a lower learning_rate_multiplier may help", "hyperparameters")


class ChildCrashed(TrainerError):
    """The child process ended without a report; another attempt may continue from its last checkpoint."""


class JobDropped(TrainerError):
    """The worker wants no more of a job that runs beside others, whose process goes on."""


class ProgressInvalid(TrainerError):
    """A line on the progress pipe is not a known message."""
