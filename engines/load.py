"""How many requests an engine has, read from the metrics that its server publishes."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from engines.errors import EngineUnreachable


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLoad:
    """Sequences in an engine at one moment."""

    running: int
    waiting: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadMetrics:
    """Names of the gauges that an engine keeps of its load."""

    running: str
    waiting: str


def load_of(exposition: str, names: LoadMetrics) -> EngineLoad:
    """Return the load in a server's metrics; `EngineUnreachable` when one of the gauges is absent.

    A server that holds several copies of the model has a series of each gauge for each copy; they are added up.
    """
    found = gauges(exposition, names.running, names.waiting)
    missing = [name for name, values in found.items() if not values]
    if missing:
        raise EngineUnreachable(f"its metrics have no {', '.join(missing)}")
    return EngineLoad(running=round(sum(found[names.running])), waiting=round(sum(found[names.waiting])))


def gauges(exposition: str, *names: str) -> dict[str, list[float]]:
    """Return name -> values of its series in Prometheus' text format; lines of other metrics are not parsed."""
    lines = [line for line in exposition.splitlines() if line.startswith(names)]
    found: dict[str, list[float]] = {name: [] for name in names}
    for family in text_string_to_metric_families("\n".join(lines)):
        for sample in family.samples:
            if sample.name in found:
                found[sample.name].append(sample.value)
    return found
