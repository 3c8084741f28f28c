"""A finished request is counted in the right Prometheus metrics."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from gateway.telemetry.metrics import GatewayMetrics
from tests.gateway.telemetry.finished_facts import facts

SUPPORT = {"adapter": "support", "revision": "7", "pool": "default"}


def everything(_: str) -> bool:
    return True


class Scrape:
    """The samples of one process's metrics."""

    def __init__(self, metrics: GatewayMetrics, exists: object = everything) -> None:
        text = metrics.own(exists if callable(exists) else everything)
        self.samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def value(self, name: str, **labels: str) -> float:
        (found,) = [sample.value for sample in self.samples if sample.name == name and sample.labels == labels]
        return found

    def names(self) -> set[tuple[str, str]]:
        """Adapter and revision of all requests."""
        return {
            (sample.labels["adapter"], sample.labels["revision"])
            for sample in self.samples
            if sample.name == "gateway_requests_total"
        }


def test_a_stream_counts_as_request_tokens_and_times() -> None:
    metrics = GatewayMetrics()
    metrics.finished.finished(facts(retries=1, queued_s=0.004))
    scrape = Scrape(metrics)
    assert scrape.value("gateway_requests_total", **SUPPORT, path="/v1/chat/completions", status="200") == 1
    assert scrape.value("gateway_prompt_tokens_total", **SUPPORT) == 30
    assert scrape.value("gateway_completion_tokens_total", **SUPPORT) == 11
    assert scrape.value("gateway_retries_total", **SUPPORT) == 1
    assert scrape.value("gateway_first_byte_seconds_bucket", **SUPPORT, streamed="true", le="0.1") == 0
    assert scrape.value("gateway_first_byte_seconds_bucket", **SUPPORT, streamed="true", le="0.25") == 1
    assert scrape.value("gateway_token_seconds_bucket", **SUPPORT, le="0.05") == 0
    assert round(scrape.value("gateway_token_seconds_sum", **SUPPORT), 6) == 0.1
    assert scrape.value("gateway_queue_seconds_bucket", pool="default", le="0.005") == 1
    assert scrape.value("gateway_overhead_seconds_bucket", le="0.0002") == 0
    assert scrape.value("gateway_overhead_seconds_bucket", le="0.0005") == 1


def test_buckets_hold_all_values_up_to_their_bound_and_the_last_one_all() -> None:
    metrics = GatewayMetrics()
    for seconds in (0.25, 0.5, 90.0):
        metrics.finished.finished(facts(streamed=False, first_byte_at=100.0 + seconds))
    scrape = Scrape(metrics)
    counts = [
        scrape.value("gateway_first_byte_seconds_bucket", **SUPPORT, streamed="false", le=bound)
        for bound in ("0.1", "0.25", "0.5", "60.0", "+Inf")
    ]
    assert counts == [0, 1, 2, 2, 3]
    assert scrape.value("gateway_first_byte_seconds_count", **SUPPORT, streamed="false") == 3


def test_each_way_to_fail_has_its_counter_and_no_times() -> None:
    metrics = GatewayMetrics()
    metrics.finished.finished(facts(reason="client_left"))
    metrics.finished.finished(facts(reason="broken"))
    metrics.finished.finished(facts(reason="rate_limit_exceeded", status=429, first_byte_at=None, sent_at=None))
    scrape = Scrape(metrics)
    assert scrape.value("gateway_cancelled_total", **SUPPORT) == 1
    assert scrape.value("gateway_broken_streams_total", **SUPPORT) == 1
    assert scrape.value("gateway_refused_total", **SUPPORT, reason="rate_limit_exceeded") == 1
    assert "gateway_token_seconds_count" not in {sample.name for sample in scrape.samples}


def test_names_that_were_never_resolved_are_one_and_a_base_model_has_no_revision() -> None:
    metrics = GatewayMetrics()
    for name in ("", "", "tiny"):
        metrics.finished.finished(facts(served_name=name, status=404 if name == "" else 200))
    scrape = Scrape(metrics)
    assert scrape.names() == {("", ""), ("tiny", "")}
    nobody = {"adapter": "", "revision": "", "pool": "default", "path": "/v1/chat/completions", "status": "404"}
    assert scrape.value("gateway_requests_total", **nobody) == 2


def test_names_beyond_the_limit_are_counted_together() -> None:
    metrics = GatewayMetrics(most_names=2)
    for number in range(5):
        metrics.finished.finished(facts(served_name=f"a{number}@1"))
    scrape = Scrape(metrics)
    assert scrape.names() == {("a0", "1"), ("a1", "1"), ("other", "")}
    assert sum(sample.value for sample in scrape.samples if sample.name == "gateway_requests_total") == 5


def test_a_revision_that_is_gone_leaves_and_makes_room() -> None:
    metrics = GatewayMetrics(most_names=1)
    metrics.finished.finished(facts(served_name="support@1"))
    assert Scrape(metrics, lambda name: name == "support@2").names() == set()
    metrics.finished.finished(facts(served_name="support@2"))
    assert Scrape(metrics, lambda name: name == "support@2").names() == {("support", "2")}
