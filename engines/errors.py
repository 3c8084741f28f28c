"""What can go wrong with an engine. Arguments are strings only: errors cross processes by pickle."""


class EngineError(Exception):
    """Base of every error of this package."""


class UnknownEngine(EngineError):
    """There is no engine of this kind; the message lists those there are."""


class EngineStartFailed(EngineError):
    """The server never became healthy; the message ends with the last lines of its log."""


class EngineUnavailable(EngineError):
    """The server does not answer, or not in time."""


class AdapterLoadFailed(EngineError):
    """The server refused the adapter; the message says why in the server's words."""


class AdapterNotLoaded(EngineError):
    """The server knows no adapter of this name."""


class FingerprintMissing(EngineError):
    """The adapter's folder has no fingerprint, or one that this Lorry cannot read: nothing can be proven."""


class SettingRefused(EngineError):
    """This kind of engine cannot honour a setting; the message names it."""


class EnvironmentMissing(EngineError):
    """The environment that the engine needs is not there; the message says how to make it."""


class AdaptersFixed(AdapterLoadFailed):
    """The engine has the adapters that it was started with until it ends; others need a new process."""
