"""Pools are read from either form of the settings, and an error lists the valid values."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.engines_settings import EnginesSettings, PoolSettings, engines_settings
from registry.errors import SettingsInvalid

TWO = {"pools": [{"name": "small"}, {"name": "large", "base": "/models/large", "kind": "vllm", "max_replicas": 4}]}
WIDE = {"kind": "vllm", "nodes": 2, "gpus": 4, "engine": {"tensor_parallel": 4, "pipeline_parallel": 2}}
"""A pool whose engines have two nodes with four devices each."""


def test_without_pools_the_table_is_the_one_pool() -> None:
    table = {"kind": "vllm", "base": "/models/large", "replicas": 3, "tick_s": 1.0, "engine": {"threads": 2}}
    pool = PoolSettings(name="default", kind="vllm", base=Path("/models/large"), min_replicas=3, engine={"threads": 2})
    assert engines_settings(table, {}) == EnginesSettings(tick_s=1.0, pools=(pool,))
    assert pool.most_replicas == 3


def test_nothing_said_is_one_replica_of_the_bundled_model_and_leaves_the_kind_open() -> None:
    (pool,) = engines_settings({}, {}).pools
    assert (pool.kind, pool.base, pool.min_replicas, pool.most_replicas) == ("transformers", None, 1, 1)
    assert "kind" not in pool.model_fields_set


def test_several_pools_are_as_they_are_written() -> None:
    small, large = engines_settings(TWO, {}).pools
    assert (small.name, small.kind, small.most_replicas) == ("small", "transformers", 1)
    assert (large.base, large.kind, large.min_replicas, large.most_replicas) == (Path("/models/large"), "vllm", 1, 4)


def test_a_pool_without_a_lowest_number_may_sleep_and_has_one_replica_at_most_unless_it_says_more() -> None:
    one, more = engines_settings(
        {"pools": [{"name": "a", "min_replicas": 0}, {"name": "b", "min_replicas": 0, "max_replicas": 3}]}, {}
    ).pools
    assert (one.may_sleep, one.most_replicas, more.most_replicas) == (True, 1, 3)
    assert not PoolSettings(name="c").may_sleep


def test_flags_go_over_the_only_pool_in_either_form() -> None:
    flags = {"kind": "sglang", "base": Path("/models/x")}
    for table in ({"kind": "vllm"}, {"pools": [{"name": "mine", "kind": "vllm", "min_replicas": 2}]}):
        (pool,) = engines_settings(table, flags).pools
        assert (pool.kind, pool.base) == ("sglang", Path("/models/x"))


@pytest.mark.parametrize(
    ("table", "flags", "said"),
    [
        (TWO, {"kind": "vllm"}, "single pool; the settings have small, large"),
        (TWO | {"kind": "vllm"}, {}, r"\[engines\] kind: belongs in one of \[\[engines.pools\]\]"),
        (TWO | {"tick": 1}, {}, r"\[engines\] unknown setting tick; did you mean 'tick_s'"),
        ({"replica": 1}, {}, r"\[engines\] unknown setting replica; did you mean 'replicas'"),
        ({"pools": [{"name": "a"}, {"name": "a"}]}, {}, "two pools are named 'a'"),
        (
            {"pools": [{"name": "a", "min_replicas": 3, "max_replicas": 2}]},
            {},
            "max_replicas 2 is below min_replicas 3",
        ),
        ({"pools": [{"name": "a", "min_replicas": -1}]}, {}, "min_replicas"),
        ({"pools": [{"name": "a", "min_replicas": 0, "max_replicas": 0}]}, {}, "max_replicas"),
        ({"pools": [{"name": "a", "sleep_after_s": 60}]}, {}, "sleep_after_s needs min_replicas = 0, .* is 1"),
        ({"pools": [{"name": "a", "min_replicas": 0, "sleep_after_s": 0}]}, {}, "sleep_after_s"),
        ({"replicas": 0}, {}, "replicas"),
        ({"pools": [{"name": "A b"}]}, {}, r"pools.0.name"),
        ({"pools": []}, {}, "pools"),
        ({"gpus": 1.5}, {}, "gpus: .*1.5 is neither a whole number nor a share"),
        ({"gpus": 0}, {}, "gpus"),
        ({"accelerator_type": "H100"}, {}, "accelerator_type needs gpus"),
        ({"gpus": 1, "accelerator_type": "H 100"}, {}, "accelerator_type"),
        ({"resources": {"GPU": 1}}, {}, "GPU is Ray's own; in place of it there is gpus"),
        ({"resources": {"accelerator_type:H100": 1}}, {}, "in place of it there is accelerator_type"),
        ({"resources": {"NPU": 0}}, {}, "resources.NPU"),
        ({"max_replicas_per_node": 0}, {}, "max_replicas_per_node"),
        ({"max_replicas_per_node": 101}, {}, "max_replicas_per_node"),
        ({"labels": {"zone": "in()"}}, {}, r"zone = 'in\(\)' is not a condition; give a value, `!value`"),
        ({"labels": {"-zone": "a"}}, {}, "'-zone' is not the key of a label"),
        ({"label": {"zone": "a"}}, {}, "unknown setting label; did you mean 'labels'"),
        (
            {"kind": "vllm", "gpus": 1, "engine": {"tensor_parallel": 2}},
            {},
            "gpus = 1 does not fit an engine on 2 devices",
        ),
        ({"kind": "vllm", "gpus": 4}, {}, "gpus = 4 does not fit an engine on 1 device "),
        ({"gpus": 0.5, "engine": {"data_parallel": 2}}, {}, "gpus = 0.5 does not fit an engine on 2 devices"),
        ({"nodes": 0}, {}, "nodes"),
        ({"nodes": 2, "gpus": 1}, {}, "nodes = 2: the kind is not set; kinds that may have several are vllm"),
        (WIDE | {"kind": "sglang"}, {}, "nodes = 2: kind 'sglang' has all devices of an engine on one node; kinds"),
        (WIDE | {"kind": "transformers"}, {}, "nodes = 2: kind 'transformers' has all"),
        (WIDE | {"gpus": None}, {}, "nodes = 2 needs gpus or resources"),
        (WIDE | {"gpus": 0.5}, {}, "gpus = 0.5 is a share of one device, and nodes = 2 needs whole ones"),
        (WIDE | {"max_replicas_per_node": 1}, {}, "max_replicas_per_node cannot be set with nodes = 2"),
        (WIDE | {"engine": {}}, {}, "nodes = 2 does not fit an engine on 1 device .* pipeline_parallel = 2 would fit"),
        (WIDE | {"engine": {"tensor_parallel": 4}}, {}, "gpus = 4 on each of nodes = 2 does not fit an engine on 4"),
        (WIDE | {"engine": {"tensor_parallel": 4, "data_parallel": 2}}, {}, "data_parallel cannot be set with nodes"),
        (
            WIDE | {"gpus": None, "resources": {"NPU": 8}, "engine": {"tensor_parallel": 9}},
            {},
            "nodes = 2 cannot share an engine on 9 devices .* evenly",
        ),
    ],
)
def test_what_is_wrong_is_named(table: dict[str, object], flags: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsInvalid, match=said):
        engines_settings(table, flags)


@pytest.mark.parametrize(
    "table",
    [
        {"kind": "vllm", "gpus": 4, "engine": {"tensor_parallel": 2, "pipeline_parallel": 2}},
        {"kind": "vllm", "gpus": 0.5},
        {"kind": "vllm", "gpus": 4, "nodes": 2, "engine": {"tensor_parallel": 4, "pipeline_parallel": 2}},
        {"kind": "vllm", "gpus": 4, "nodes": 2, "engine": {"tensor_parallel": 8}},
        {"gpus": 4},
        {"gpus": 2, "engine": {"tensor_parallel": 2}},
    ],
)
def test_as_many_gpus_are_reserved_as_the_engine_computes_on(table: dict[str, object]) -> None:
    (pool,) = engines_settings(table, {}).pools
    assert pool.gpus == table["gpus"]
