"""The metrics of several processes become one exposition that Prometheus' own parser reads."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from gateway.telemetry.exposition import merge


def process(requests: int, odd: str) -> str:
    """The metrics of a process that counted so many *requests*."""
    registry = CollectorRegistry()
    Counter("gateway_requests", "Of all\nkinds", ["model"], registry=registry).labels(odd).inc(requests)
    Gauge("gateway_at", "No labels", registry=registry).set(requests)
    Histogram("gateway_s", "Times", buckets=(1.0,), registry=registry).observe(0.5)
    return generate_latest(registry).decode()


def test_every_sample_keeps_its_value_and_gains_its_process() -> None:
    odd = 'a "b" {c="d"} \\ \n e f\u2028'
    families = list(text_string_to_metric_families(merge({"g1": process(1, odd), "g2": process(2, odd)})))
    samples = {
        (sample.name, sample.labels["gateway"], sample.labels.get("le")): sample
        for family in families
        for sample in family.samples
    }
    assert len({family.name for family in families}) == len(families)
    for number in (1, 2):
        told = samples["gateway_requests_total", f"g{number}", None]
        assert (told.value, told.labels["model"]) == (number, odd)
        assert samples["gateway_at", f"g{number}", None].value == number
        assert samples["gateway_s_bucket", f"g{number}", "1.0"].value == 1
    assert {family.name: family.documentation for family in families}["gateway_requests"] == "Of all\nkinds"
    assert not [name for name, *_ in samples if name.endswith("_created")]


def test_a_family_that_one_process_alone_has_is_there() -> None:
    registry = CollectorRegistry()
    Gauge("gateway_more", "Of one", registry=registry).set(3)
    text = merge({"g1": process(1, "x"), "g2": generate_latest(registry).decode()})
    assert 'gateway_more{gateway="g2"} 3.0' in text
    assert text.count("# TYPE gateway_requests") == 1
