"""Where a server of each kind says how busy it is, and how that is read; for those who only have its address."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from engines.drivers.adopted import MANNERS
from engines.load import LOADS_PATH, EngineLoad, load_of, load_of_schedulers


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSource:
    """What a GET of `path` answers, `read` understands; it raises `EngineUnavailable` when the load is not in it."""

    path: str
    read: Callable[[str], EngineLoad]


LOAD_SOURCES: Final[Mapping[str, LoadSource]] = {
    kind: LoadSource(path="/metrics", read=partial(load_of, names=manners.load)) for kind, manners in MANNERS.items()
} | {"sglang": LoadSource(path=LOADS_PATH, read=load_of_schedulers)}
