"""What can go wrong in the registry. Arguments are strings only: errors cross processes by pickle."""


class RegistryError(Exception):
    """Base of every error of this package."""


class NotFound(RegistryError):
    """The named thing is not in the registry."""


class IllegalMove(RegistryError):
    """The state table does not allow this move."""


class StaleState(RegistryError):
    """Someone else moved it first; read it again."""


class LeaseLost(RegistryError):
    """The job belongs to another worker by now, or to none."""


class InvalidPlan(RegistryError):
    """The steps of a rollout make no sense."""


class RolloutOpen(RegistryError):
    """The adapter already has an open rollout."""


class NotServable(RegistryError):
    """The revision is retired, already stable, or otherwise cannot be rolled out or retired."""


class Conflict(RegistryError):
    """The name is taken by something else."""


class AdapterRejected(RegistryError):
    """The folder is no servable adapter for this base; the message says which part and why."""


class TrainingFileInvalid(RegistryError):
    """A line of a training file is wrong; the message names line and field."""


class ArtifactCorrupt(RegistryError):
    """Stored bytes no longer match their digest."""


class StorageFull(RegistryError):
    """No space was left while writing; nothing was changed."""


class SchemaTooNew(RegistryError):
    """The registry was written by a newer Lorry."""


class SchemaTooOld(RegistryError):
    """The database holds no registry yet, or one that an older Lorry wrote; `migrate` brings it up."""


class RegistryUnavailable(RegistryError):
    """The database does not answer."""


class SettingsInvalid(RegistryError):
    """The settings file has an unknown table, field or a wrong value."""
