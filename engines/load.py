"""How busy an engine is, read from what its server publishes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import orjson
from prometheus_client.parser import text_string_to_metric_families

from engines.errors import EngineUnavailable

LOADS_PATH: Final = "/v1/loads?include=core"
"""Where SGLang says how busy its schedulers are at this moment; its gauges are tens of steps late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLoad:
    """Sequences in an engine at one moment."""

    running: int
    waiting: int
    kv_use: float | None
    """Share of the room for keys and values that is taken, 0 to 1; None where the engine does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadMetrics:
    """Names of the gauges that an engine keeps of its load."""

    running: str
    waiting: str
    kv_use: str | None = None


def load_of(exposition: str, names: LoadMetrics) -> EngineLoad:
    """The load in a server's metrics, `EngineUnavailable` when one of the gauges is not there.

    Of several series of a gauge (one for each copy of the model) counts are added up, and the largest share counts.
    """
    wanted = [name for name in (names.running, names.waiting, names.kv_use) if name is not None]
    found = gauges(exposition, *wanted)
    missing = [name for name in wanted if not found[name]]
    if missing:
        raise EngineUnavailable(f"its metrics have no {', '.join(missing)}")
    return EngineLoad(
        running=round(sum(found[names.running])),
        waiting=round(sum(found[names.waiting])),
        kv_use=max(found[names.kv_use]) if names.kv_use is not None else None,
    )


def load_of_schedulers(body: str) -> EngineLoad:
    """The load in SGLang's answer to `/v1/loads?include=core`; `EngineUnavailable` when it is none."""
    try:
        ranks = orjson.loads(body)["loads"]
        if not ranks:
            raise EngineUnavailable("/v1/loads names no scheduler")
        return EngineLoad(
            running=sum(rank["num_running_reqs"] for rank in ranks),
            waiting=sum(rank["num_waiting_reqs"] for rank in ranks),
            kv_use=max(rank["token_usage"] for rank in ranks),
        )
    except (orjson.JSONDecodeError, KeyError, TypeError) as exc:
        raise EngineUnavailable("/v1/loads does not say how busy the schedulers are") from exc


def gauges(exposition: str, *names: str) -> dict[str, list[float]]:
    """Name -> values of its series in Prometheus' text format; only the lines that matter are parsed."""
    lines = [line for line in exposition.splitlines() if line.startswith(names)]
    found: dict[str, list[float]] = {name: [] for name in names}
    for family in text_string_to_metric_families("\n".join(lines)):
        for sample in family.samples:
            if sample.name in found:
                found[sample.name].append(sample.value)
    return found
