"""The processes of one replica: the engine that serves, and for a while the one that is to replace it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path

from engines.errors import EngineError
from engines.protocol import Engine
from engines.replica.adapter_sets import EngineSource, Pace

log = logging.getLogger(__name__)


class RunningEngines:
    """Starts engines, keeps which of them serves, and ends every one that it started."""

    def __init__(self, source: EngineSource, pace: Pace) -> None:
        self.source = source
        self.pace = pace
        self._alive: list[Engine] = []
        self._serving: Engine | None = None

    @property
    def serving(self) -> Engine:
        """The engine that requests go to; `EngineError` while there is none."""
        if self._serving is None:
            raise EngineError("no engine serves")
        return self._serving

    async def start(self, adapters: Mapping[str, Path]) -> Engine:
        """Start an engine and return it once it answers; `EngineError`, and no process remains, if it does not."""
        engine = self.source.build(adapters)
        # Listed before the start: a cancelled start raises no `EngineError`, and `end_all` must find its process.
        self._alive.append(engine)
        try:
            await engine.start()
        except EngineError:
            await self.end(engine, 0.0)
            raise
        return engine

    def serve_with(self, engine: Engine) -> None:
        """Let requests go to *engine* from now on."""
        self._serving = engine

    async def end(self, engine: Engine, drain_timeout_s: float) -> None:
        """End one engine; its requests have so long to finish."""
        await engine.stop(drain_timeout_s)
        if engine in self._alive:  # not ended by `end_all` meanwhile
            self._alive.remove(engine)

    async def end_all(self, drain_timeout_s: float) -> None:
        """End every engine; their requests have so long to finish."""
        ending, self._alive, self._serving = self._alive, [], None
        done = await asyncio.gather(*(engine.stop(drain_timeout_s) for engine in ending), return_exceptions=True)
        for error in done:
            if isinstance(error, BaseException):
                log.error("an engine did not end as it should", exc_info=error)
