"""Dashboards and alerts name metrics that exist, fire as they should, and lead to a paragraph of the runbook."""

from __future__ import annotations

import re

import pytest

from deploy.monitoring.__main__ import FOLDER, dashboards
from tests.deploy.monitoring_files import (
    RULE_TESTS,
    RULES,
    PanelQuery,
    alerts,
    documented_metrics,
    metrics_of,
    panel_queries,
    promtool,
    rules,
)
from tests.pages import ROOT, anchors

RUNBOOK = ROOT / "docs" / "runbook.md"
METRICS = ROOT / "docs" / "metrics.md"


def test_the_dashboards_are_those_that_the_code_makes() -> None:
    written = {path.name: path.read_text() for path in FOLDER.iterdir()}
    assert written == dashboards(), "run `make dashboards`"


@pytest.mark.parametrize("query", tuple(panel_queries()), ids=lambda query: f"{query.dashboard}: {query.panel}")
def test_a_panel_reads_metrics_that_the_docs_describe(query: PanelQuery) -> None:
    names = metrics_of(query.expr)
    assert names
    assert names <= documented_metrics(METRICS)


@pytest.mark.long
def test_the_rules_are_valid_and_fire_as_their_own_tests_say() -> None:
    assert "SUCCESS" in promtool("check", "rules", str(RULES))
    assert "SUCCESS" in promtool("test", "rules", str(RULE_TESTS))


def test_every_alert_is_seen_firing_and_resting() -> None:
    text = RULE_TESTS.read_text()
    for alert in alerts():
        name = alert["alert"]
        assert re.search(rf"alertname: {name}\n\s+exp_alerts:", text), f"{name} never fires in {RULE_TESTS.name}"
        assert re.search(rf"alertname: {name}}}", text), f"{name} never rests in {RULE_TESTS.name}"


def test_every_alert_leads_to_its_paragraph_and_every_paragraph_has_its_alert() -> None:
    named = {alert["alert"]: alert["annotations"]["runbook"] for alert in alerts()}
    assert named == {name: f"docs/runbook.md#{name.lower()}" for name in named}
    headings = set(re.findall(r"^### (Lorry\w+)$", RUNBOOK.read_text(), re.MULTILINE))
    assert headings == set(named)
    assert {name.lower() for name in named} <= set(anchors(RUNBOOK))


def test_alerts_read_metrics_that_the_docs_describe() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    for rule in rules():
        assert metrics_of(rule["expr"]) - recorded <= documented_metrics(METRICS), rule
    assert {alert["labels"]["severity"] for alert in alerts()} == {"page", "ticket"}
