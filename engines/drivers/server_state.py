"""The reports of a running server: what requests it answers, and how many requests it has."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import cast

from engines.catalog import code_of, kind_of, load_reader
from engines.drivers.openai_server import OpenAiServer
from engines.load import EngineLoad

CallsReader = Callable[[OpenAiServer], Awaitable[bool]]
PathReader = Callable[[frozenset[str], OpenAiServer], Awaitable[frozenset[str]]]


async def offered_paths(kind: str, http: OpenAiServer) -> frozenset[str]:
    """Return which of the kind's paths the server answers with its base model; `EngineUnreachable`, `UnknownEngine`."""
    row = kind_of(kind)
    if row.path_reader is None:
        return row.paths
    return await cast(PathReader, code_of(row.path_reader))(row.paths, http)


async def does_read_calls(kind: str, http: OpenAiServer) -> bool:
    """Return whether the server reads tool calls, or refuses tools; `EngineUnreachable`, `UnknownEngine`."""
    row = kind_of(kind)
    return row.calls_reader is None or await cast(CallsReader, code_of(row.calls_reader))(http)


async def server_load(kind: str, http: OpenAiServer) -> EngineLoad:
    """Return how many requests the server has; `EngineUnreachable`, `UnknownEngine`."""
    return load_reader(kind)((await http.get(kind_of(kind).load.path)).text)
