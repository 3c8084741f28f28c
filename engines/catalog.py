"""Which kinds of engine there are. Each is imported only when it is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Final, cast

from engines.errors import UnknownEngine
from engines.protocol import Engine
from engines.settings import EngineSettings

ENGINES: Final[Mapping[str, str]] = {
    "transformers": "engines.transformers.driver:TransformersEngine",
}
"""Kind -> `module:builder`; a builder takes `EngineSettings`."""


def build_engine(settings: EngineSettings) -> Engine:
    """The engine of the kind that *settings* name, not started; `UnknownEngine`."""
    if settings.kind not in ENGINES:
        raise UnknownEngine(f"engine {settings.kind!r} is not one of {sorted(ENGINES)}")
    module, _, builder = ENGINES[settings.kind].partition(":")
    build = cast(Callable[[EngineSettings], Engine], vars(import_module(module))[builder])
    return build(settings)
