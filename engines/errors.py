"""The errors of this package. Arguments are strings only: errors cross processes by pickle."""


class EngineError(Exception):
    """Base of every error of this package."""


class UnknownEngine(EngineError):
    """No engine of this kind exists; the message lists the kinds that do."""


class EngineStartFailed(EngineError):
    """The server never became healthy; the message ends with the last lines of its log."""


class EngineUnreachable(EngineError):
    """The server does not answer, or not in time."""


class AdapterLoadFailed(EngineError):
    """The server refused the adapter; the message has the reason in the server's words."""


class AdapterNotLoaded(EngineError):
    """The server knows no adapter of this name."""


class FingerprintMissing(EngineError):
    """The adapter's folder has no fingerprint, or one that this Lorry cannot read: nothing can be proven."""


class EnvironmentMissing(EngineError):
    """The environment of this kind of engine is absent or unfinished; the message names the command to run."""


class EnvironmentFailed(EngineError):
    """An environment could not be built; the message names the command that failed and ends with its last output."""


class ModelUnreadable(EngineError):
    """A model's folder lacks what its size follows from, or holds a kind of model that we do not know."""


class DoesNotFit(EngineError):
    """No engine can serve the model here, or not as asked; the message has the numbers or the reason."""


class SettingRefused(EngineError):
    """This kind of engine cannot honour a setting; the message names it."""


class AdaptersFixed(AdapterLoadFailed):
    """The engine has the adapters that it was started with until it ends; others need a new process."""


class ClusterSecretMissing(EngineError):
    """An engine has a key that is made from a secret which this process does not have."""
