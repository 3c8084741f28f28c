"""The needs of a pool reach Serve, which checks them as it does at every deployment."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

from engines.settings import EngineSettings
from gateway.engines_settings import PoolSettings, engines_settings
from gateway.pools.pools import Pool
from gateway.settings import SettingsSource
from registry.types import Base

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # those of Ray Serve, when it is imported
    from ray.serve._private.config import ReplicaConfig

    from gateway.up.applications import controller_application, engines_application

NEEDS: dict[str, Any] = {
    "kind": "vllm",
    "gpus": 2,
    "accelerator_type": "A100-80G",
    "resources": {"fast_disk": 0.5},
    "max_replicas_per_node": 1,
    "labels": {"zone": "in(a, b)", "ray.io/node-id": "!abc"},
    "engine": {"tensor_parallel": 2},
}


def deployed(table: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> ReplicaConfig:
    """Return the replicas' part of the deployment, as Serve has checked it."""
    monkeypatch.delenv("LORRY_CONFIG", raising=False)
    source = SettingsSource(tables={"engines": table})
    settings = source.load()
    application = engines_application(source, settings, settings.engines.pools, {})
    config: ReplicaConfig = application._bound_deployment._replica_config
    return config


@pytest.mark.parametrize(("controllers", "per_node"), [(1, None), (2, 1)])
def test_each_controller_has_a_node_of_its_own(
    controllers: int, per_node: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LORRY_CONFIG", raising=False)
    source = SettingsSource(tables={"gateway": {"controllers": controllers, "resources": {"lorry": 0.01}}})
    deployment = controller_application(source, source.load(), {})._bound_deployment
    assert deployment.num_replicas == controllers
    assert deployment._replica_config.max_replicas_per_node == per_node
    assert deployment._replica_config.ray_actor_options["resources"] == {"lorry": 0.01}


@pytest.mark.parametrize(("known", "initial"), [(True, 0), (False, 1)])
def test_a_pool_that_may_sleep_begins_so_where_it_is_known_what_it_serves(
    known: bool, initial: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LORRY_CONFIG", raising=False)
    table = {"pools": [{"name": "night", "min_replicas": 0, "sleep_after_s": 60, "scale_down_after_s": 5}]}
    source = SettingsSource(tables={"engines": table})
    settings = source.load()
    pools = settings.engines.pools
    prepared = Pool(
        settings=pools[0],
        engine=EngineSettings(kind="transformers", base_path=Path("/tiny"), base_name="tiny", log_path=Path("log")),
        base=Base(name="tiny", path="/tiny", digest="0", licence="mit", created_at=0.0),
    )
    application = engines_application(source, settings, pools, {"night": prepared} if known else {})
    scaling = application._bound_deployment._deployment_config.autoscaling_config
    assert scaling is not None
    assert (scaling.min_replicas, scaling.initial_replicas, scaling.max_replicas) == (0, initial, 1)
    assert (scaling.downscale_to_zero_delay_s, scaling.downscale_delay_s) == (60, 5)


def test_what_a_pool_needs_is_what_serve_asks_of_a_node(monkeypatch: pytest.MonkeyPatch) -> None:
    config = deployed(NEEDS, monkeypatch)
    assert config.ray_actor_options == {
        "num_cpus": 0,
        "num_gpus": 2.0,
        "accelerator_type": "A100-80G",
        "resources": {"fast_disk": 0.5},
        "label_selector": {"zone": "in(a, b)", "ray.io/node-id": "!abc"},
    }
    assert config.max_replicas_per_node == 1


def test_a_replica_on_several_nodes_has_a_bundle_on_each_for_what_it_needs_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    several = {"nodes": 2, "max_replicas_per_node": None, "engine": {"tensor_parallel": 2, "pipeline_parallel": 2}}
    config = deployed(NEEDS | several, monkeypatch)
    bundle = {"GPU": 2.0, "fast_disk": 0.5, "accelerator_type:A100-80G": 0.001}
    assert config.placement_group_bundles == [bundle, bundle]
    assert config.placement_group_strategy == "STRICT_SPREAD"
    assert config.placement_group_bundle_label_selector == [NEEDS["labels"], NEEDS["labels"]]
    assert config.ray_actor_options == {"num_cpus": 0, "num_gpus": 2.0, "resources": {"fast_disk": 0.5}}
    assert config.max_replicas_per_node is None


def test_a_pool_without_needs_is_placed_anywhere_and_keeps_the_devices_that_it_sees(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = deployed({}, monkeypatch)
    assert config.ray_actor_options == {"num_cpus": 0}
    assert config.max_replicas_per_node is None


@pytest.mark.parametrize("condition", ["a", "!a", "in(a, b)", "!in(a,b)", "gpu-7.rack_2"])
def test_every_condition_that_settings_take_is_one_of_rays(condition: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private.label_utils import validate_label_selector

    (pool,) = engines_settings({"labels": {"example.com/zone": condition}}, {}).pools
    assert isinstance(pool, PoolSettings)
    assert (
        validate_label_selector(deployed({"labels": pool.labels}, monkeypatch).ray_actor_options["label_selector"])
        is None
    )
