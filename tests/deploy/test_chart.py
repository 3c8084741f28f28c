"""The chart over sets of values: what helm makes of them holds to the schemas of Kubernetes and KubeRay."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.deploy.chart_values import VALUE_SETS, WRONG
from tests.deploy.lint_tools import complains, passes
from tests.deploy.monitoring_files import RULES, promtool
from tests.deploy.rendered_chart import CHART, Renderer, check_ray_service, groups, one

pytestmark = pytest.mark.deploy
KUBERNETES = ("1.29", "1.37")
"""The oldest version that the chart is for, and the newest that the validator knows."""
WITHOUT_SCHEMA = {"RayService", "ServiceMonitor", "PrometheusRule"}
every_set = pytest.mark.parametrize("values", VALUE_SETS.values(), ids=VALUE_SETS.keys())


@every_set
def test_helm_and_kuberay_take_the_chart(values: Mapping[str, Any], chart: Renderer) -> None:
    passes("helm", "lint", "--strict", CHART, "--values", chart.values(values))
    check_ray_service(one(chart.rendered(values), "RayService"))


@pytest.mark.parametrize("version", KUBERNETES)
def test_all_objects_hold_to_the_schemas_of_kubernetes(version: str, chart: Renderer) -> None:
    paths = [chart.rendered(values) for values in VALUE_SETS.values()]
    said = passes("kubernetes-validate", "--strict", "--kubernetes-version", version, *paths)
    assert {
        word.split("for kind ")[1].split()[0] for word in said.splitlines() if word.startswith("WARN")
    } == WITHOUT_SCHEMA


@pytest.mark.parametrize("version", KUBERNETES)
def test_the_pods_of_ray_hold_to_the_schema_of_pods(version: str, chart: Renderer, tmp_path: Path) -> None:
    paths = []
    for number, values in enumerate(VALUE_SETS.values()):
        templates = [group["template"] for group in groups(one(chart.rendered(values), "RayService"))]
        pods = [
            {**pod, "apiVersion": "v1", "kind": "Pod", "metadata": {**pod["metadata"], "name": "pod"}}
            for pod in templates
        ]
        paths.append(tmp_path / f"{number}.yaml")
        paths[-1].write_text(yaml.safe_dump_all(pods))
    assert "WARN" not in passes("kubernetes-validate", "--strict", "--kubernetes-version", version, *paths)


def test_the_validators_would_find_a_misspelt_key(chart: Renderer, tmp_path: Path) -> None:
    rendered = chart.rendered({})
    service = one(rendered, "RayService")
    service["spec"]["rayClusterConfig"]["headGroupSpec"]["rayStartParam"] = {}
    with pytest.raises(jsonschema.ValidationError, match="rayStartParam"):
        check_ray_service(service)
    path = tmp_path / "misspelt.yaml"
    path.write_text(rendered.read_text().replace("  maxUnavailable:", "  maxUnavailabel:"))
    assert "maxUnavailabel" in complains("kubernetes-validate", "--strict", path)


@pytest.mark.parametrize(("values", "complaint"), WRONG.values(), ids=WRONG.keys())
def test_wrong_values_are_refused_by_the_name_of_their_field(
    values: Mapping[str, Any], complaint: str, chart: Renderer
) -> None:
    said = complains("helm", "template", "lorry", CHART, "--values", chart.values(values))
    assert complaint in said


def test_the_alerts_are_those_of_the_one_file_of_rules(chart: Renderer, tmp_path: Path) -> None:
    made = one(chart.rendered(VALUE_SETS["monitored"]), "PrometheusRule")["spec"]
    assert made == yaml.safe_load(RULES.read_text())
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump(made))
    assert "SUCCESS" in promtool("check", "rules", str(path))


def test_the_scrape_is_of_gateways_and_by_the_name_that_alerts_ask_for(chart: Renderer) -> None:
    path = chart.rendered(VALUE_SETS["monitored"])
    spec = one(path, "ServiceMonitor")["spec"]
    labels = one(path, "Service")["metadata"]["labels"]
    assert labels[spec["jobLabel"]] == "lorry"
    assert spec["selector"]["matchLabels"].items() <= labels.items()
    assert spec["endpoints"][0]["port"] == one(path, "Service")["spec"]["ports"][0]["name"]
