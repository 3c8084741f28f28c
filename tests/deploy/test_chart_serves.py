"""The applications, settings and pods of the chart fit together: Ray Serve and Lorry read them, each as it will."""

from __future__ import annotations

import importlib.util
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.settings import Settings, SettingsSource
from gateway.up.cluster.checks import check_cluster
from registry.settings import read_tables
from tests.deploy.chart_values import VALUE_SETS
from tests.deploy.rendered_chart import Renderer, groups, one, settings_text

# Ray Serve's own models of pydantic are written in a way that pydantic gives up.
pytestmark = [pytest.mark.deploy, pytest.mark.filterwarnings("ignore:Using extra keyword arguments on `Field`")]
every_set = pytest.mark.parametrize("values", VALUE_SETS.values(), ids=VALUE_SETS.keys())


def applications(path: Path) -> Any:
    from ray.serve.schema import ServeDeploySchema

    return ServeDeploySchema.model_validate(yaml.safe_load(one(path, "RayService")["spec"]["serveConfigV2"]))


@every_set
def test_serve_takes_the_applications(values: Mapping[str, Any], chart: Renderer) -> None:
    path = chart.rendered(values)
    config = applications(path)
    pools = [pool["name"] for pool in tomllib.loads(settings_text(path))["engines"]["pools"]]
    assert [about.name for about in config.applications] == [
        "gateway",
        "controller",
        *(f"engines-{name}" for name in pools),
    ]
    for about in config.applications:
        module, _, builder = about.import_path.partition(":")
        found = importlib.util.find_spec(module)
        assert found is not None
        assert found.origin is not None
        assert f"def {builder}(" in Path(found.origin).read_text()


def settings_of(path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return the settings as a node of the cluster reads them, which a builder of applications would take."""
    file = folder / "lorry.toml"
    file.write_text(settings_text(path))
    monkeypatch.setenv("LORRY_REGISTRY", "postgresql+psycopg://lorry@db/lorry")
    monkeypatch.setenv("LORRY_CLUSTER_SECRET", "5" * 32)
    source = SettingsSource(tables=read_tables(file))
    settings = source.load()
    check_cluster(source, settings)
    return settings


@every_set
def test_lorry_takes_the_settings(
    values: Mapping[str, Any], chart: Renderer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(chart.rendered(values), tmp_path, monkeypatch)
    gateway = {"pods": 2, "processesPerPod": 2, **values.get("gateway", {})}
    assert settings.gateway.replicas == gateway["pods"] * gateway["processesPerPod"]
    assert settings.gateway.max_replicas_per_node == gateway["processesPerPod"]
    assert settings.gateway.controllers == min(2, gateway["pods"])


@every_set
def test_every_replica_has_pods_with_the_resource_that_it_asks_for(
    values: Mapping[str, Any], chart: Renderer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = chart.rendered(values)
    settings = settings_of(path, tmp_path, monkeypatch)
    offered = {group.get("groupName", "head"): group["resources"] for group in groups(one(path, "RayService"))}
    asked = {"gateway": (settings.gateway.resources, 0.0)}
    asked |= {f"pool-{pool.name}": (pool.resources, pool.gpus or 0.0) for pool in settings.engines.pools}
    for group, (resources, gpus) in asked.items():
        assert resources
        fitting = [
            name
            for name, table in offered.items()
            if all(float(table.get(resource, 0)) >= amount for resource, amount in resources.items())
        ]
        assert fitting == [group]
        assert float(offered[group].get("GPU", 0)) == gpus


@every_set
def test_every_pool_has_a_pod_for_each_node_of_its_replicas(
    values: Mapping[str, Any], chart: Renderer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = chart.rendered(values)
    settings = settings_of(path, tmp_path, monkeypatch)
    pods = {group.get("groupName", "head"): group for group in groups(one(path, "RayService"))}
    for pool in settings.engines.pools:
        group = pods[f"pool-{pool.name}"]
        assert group["replicas"] == group["minReplicas"] == pool.nodes * pool.min_replicas
        assert group["maxReplicas"] == pool.nodes * pool.most_replicas


@every_set
def test_a_pod_stays_until_what_is_on_it_has_drained(values: Mapping[str, Any], chart: Renderer) -> None:
    path = chart.rendered(values)
    service = one(path, "RayService")
    drain_s = tomllib.loads(settings_text(path))["gateway"].get("drain_timeout_s", 30)
    head, *workers = ((group["template"]["spec"]) for group in groups(service))
    stays = {spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][-1].split()[-1] for spec in workers}
    (worker_s,) = (int(text) for text in stays)
    head_s = int(head["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][-1])
    assert drain_s + 10 < worker_s < head_s < head["terminationGracePeriodSeconds"]
    assert service["spec"]["rayClusterDeletionDelaySeconds"] >= drain_s
    assert all(spec["terminationGracePeriodSeconds"] > worker_s for spec in workers)


def test_the_service_selects_gateways_alone(chart: Renderer) -> None:
    path = chart.rendered(VALUE_SETS["pools of every kind"])
    selector = one(path, "Service")["spec"]["selector"].items()
    selected = [
        group.get("groupName")
        for group in groups(one(path, "RayService"))
        if selector <= group["template"]["metadata"]["labels"].items()
    ]
    assert selected == ["gateway"]
    trainer = one(path, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert not selector <= trainer.items()


def test_other_settings_make_other_pods_and_the_same_ones_the_same(chart: Renderer) -> None:
    def templates(values: Mapping[str, Any]) -> list[Any]:
        return [group["template"] for group in groups(one(chart.rendered(values), "RayService"))]

    assert templates({}) == templates({})
    assert templates({}) != templates({"settings": {"gateway": {"late_factor": 3}}})
