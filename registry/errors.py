"""Errors of the registry. Arguments are strings only, since errors cross processes by pickle."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import TypeVar

State = TypeVar("State", bound=StrEnum)


class RegistryError(Exception):
    """Base of every error of this package."""


class NotFound(RegistryError):
    """The named thing is not in the registry."""


class IllegalMove(RegistryError):
    """The state table does not allow this move."""


def allow_move(subject: str, moves: Mapping[State, Collection[State]], current: State, to: State) -> None:
    """Raise `IllegalMove` unless the table *moves* allows *current* -> *to* for the *subject*, such as "a job"."""
    if to not in moves[current]:
        legal = ", ".join(sorted(moves[current])) or "nothing, as it has ended"
        raise IllegalMove(f"{subject} that is {current} cannot become {to}; possible: {legal}")


class StaleState(RegistryError):
    """Someone else moved the row first; read it again."""


class LeaseLost(RegistryError):
    """The job's lease has ended; another worker may have the job by now."""


class InvalidPlan(RegistryError):
    """The steps of a rollout make no sense."""


class RolloutOpen(RegistryError):
    """The adapter already has an open rollout."""


class DependencyRefused(RegistryError):
    """A job cannot come after a job that does not exist, or that failed or was cancelled."""


class JobTooLarge(RegistryError):
    """No worker of the trainer has a device that could hold the job; the message has the numbers."""


class NotServable(RegistryError):
    """The revision is retired, already stable, or otherwise cannot be rolled out or retired."""


class NothingToRollBack(RegistryError):
    """The last change of an adapter's traffic was taken back already, or is on its way back."""


class Conflict(RegistryError):
    """The name is already in use for something else."""


class NameTaken(RegistryError):
    """The name belongs to an adapter of another tenant; choose another one."""


class AdapterRejected(RegistryError):
    """The folder cannot be served as an adapter of this base; the message names the part and the reason."""


class NotReproducible(RegistryError):
    """The job of a result cannot be run again; the message has every reason."""


class NotQuantizable(RegistryError):
    """A model cannot be quantized as asked; the message names the field and what would be right."""


class WeightsRefused(RegistryError):
    """The weights cannot be trained as asked; the message names the hyperparameter and what would be right."""


class TrainingFileInvalid(RegistryError):
    """A line of a training file is wrong; the message names line and field."""


class UploadRejected(RegistryError):
    """The parts of an upload are not those of the file that was announced; the message names the field."""


class ArtifactCorrupt(RegistryError):
    """Stored bytes no longer match their digest."""


class StorageFull(RegistryError):
    """No space was left while writing; nothing was changed."""


class SchemaTooNew(RegistryError):
    """The registry was written by a newer Lorry."""


class SchemaTooOld(RegistryError):
    """The database has no registry yet, or one of an older Lorry; `migrate` brings it up to date."""


class RegistryUnavailable(RegistryError):
    """The database does not answer."""


class ArtifactsUnavailable(RegistryUnavailable):
    """The bucket of the artifacts does not answer, or refuses; the message names the change that is needed."""


class TransactionLost(RegistryUnavailable):
    """The database or its connection gave the transaction up before COMMIT: the same call may be made again."""


class OutcomeUnknown(RegistryUnavailable):
    """The connection broke at COMMIT, so the change was stored or not."""


class NotStorable(RegistryError):
    """The database cannot store a value: a number out of its range, or text that is no Unicode."""


class SchemaForeign(RegistryError):
    """The database belongs to another program."""


class SettingsInvalid(RegistryError):
    """The settings file has an unknown table, field or a wrong value."""


class GraderInvalid(RegistryError):
    """A grader is wrong; the message names the field and what would be right, `param` is the field's path."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message, param)
        self.message = message
        self.param = param

    def __str__(self) -> str:
        return self.message


class TemplateUnfilled(RegistryError):
    """A variable of a grader's template has no value; `is_output` if the model's output is to blame, not the item."""

    def __init__(self, message: str, is_output: bool) -> None:
        super().__init__(message, is_output)
        self.message = message
        self.is_output = is_output

    def __str__(self) -> str:
        return self.message


class FormulaFailed(RegistryError):
    """The formula of a multi grader has no finite value."""
