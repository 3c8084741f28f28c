"""The interface to an inference server that the rest of Lorry uses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from engines.load import EngineLoad


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineTraits:
    """The capabilities of an engine. Callers branch on these, never on its class."""

    live_adapters: bool
    """Adapters come and go without a restart."""
    max_adapters: int
    """Most adapters that it holds at a time, without the base model."""
    paths: frozenset[str]
    """Paths of inference requests that it answers with its base model; before its start, all paths of its kind."""
    reads_calls: bool = True
    """Tool calls that the model writes become `tool_calls` of the answer, or `tools` are refused by the server."""


class Engine(Protocol):
    """An inference server. Every failure is an `engines.errors.EngineError`; use it from one event loop."""

    @property
    def traits(self) -> EngineTraits:
        """Return what this engine can do; only `paths` may become fewer by its start."""
        ...

    @property
    def base_url(self) -> str:
        """`http://host:port` by which gateways reach the server, without a trailing slash; known before start."""
        ...

    async def start(self) -> None:
        """Return once the server answers requests for its base model and the adapters that it was built with.

        `EngineStartFailed` if it does not in time. At most once for an engine: after a stop or crash, build a new one.
        """
        ...

    async def stop(self, drain_timeout_s: float) -> None:
        """Let running requests finish for so long, then end the server and all it started; a no-op if it is gone."""
        ...

    async def is_healthy(self) -> bool:
        """Whether the server answers its health check; raises nothing."""
        ...

    async def wait_exit(self) -> int:
        """Return the exit code of the server's process when it ends, negative for a signal; `EngineUnreachable` if
        it was never started."""
        ...

    def last_log_lines(self) -> str:
        """Return the end of the server's log, for an error message; empty if it was never started. Raises nothing."""
        ...

    async def loaded_adapters(self) -> frozenset[str]:
        """Return the served names of the adapters that answer requests; `EngineUnreachable`."""
        ...

    async def load_adapter(self, served_name: str, path: Path) -> None:
        """Return once *served_name* answers requests; *path* is absolute; loading it again from there is a no-op.

        `AdapterLoadFailed` when it is refused (`AdaptersFixed` where the traits exclude live adapters),
        `EngineUnreachable` when the server does not answer.
        """
        ...

    async def unload_adapter(self, served_name: str) -> None:
        """Return once the name is unknown to new requests and running ones have finished.

        `AdapterNotLoaded` for an unknown name, `AdaptersFixed` where the traits have no live adapters,
        `EngineUnreachable` when the server does not answer.
        """
        ...

    async def memory_bytes(self) -> int | None:
        """Return the resident memory of the server's processes; None where they are not ours. Raises nothing."""
        ...

    async def load(self) -> EngineLoad:
        """Return how many requests the server reports; `EngineUnreachable`."""
        ...
