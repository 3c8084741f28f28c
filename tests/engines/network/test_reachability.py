"""An engine listens on one host and is reached by another, each of which others can use or is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from engines.address import keyed_address, shown_address
from engines.errors import SettingRefused
from engines.network.hosts import local_host
from engines.network.reachability import on_node, reached_host
from engines.settings import EngineSettings

NODE = "10.0.0.7"


def settings(**fields: Any) -> EngineSettings:
    known = {"base_path": Path("base"), "base_name": "base", "log_path": Path("log")}
    return EngineSettings.model_validate(known | fields)


def test_an_engine_listens_on_loopback_where_nothing_else_is_said() -> None:
    assert settings().host == reached_host(settings()) == "127.0.0.1"
    assert on_node(settings(), "127.0.0.1") == settings()


@pytest.mark.parametrize(
    ("fields", "bound", "reached"),
    [
        ({}, NODE, NODE),
        ({"host": "0.0.0.0"}, "0.0.0.0", NODE),
        ({"host": "::"}, "::", NODE),
        ({"host": "10.9.0.7"}, "10.9.0.7", "10.9.0.7"),
        ({"advertised_host": "gpu-7.cluster"}, NODE, "gpu-7.cluster"),
        ({"host": "127.0.0.1", "advertised_host": "gpu-7.cluster"}, "127.0.0.1", "gpu-7.cluster"),
    ],
)
def test_on_a_cluster_other_nodes_can_reach_an_engine(fields: dict[str, str], bound: str, reached: str) -> None:
    placed = on_node(settings(**fields), NODE)
    assert (placed.host, reached_host(placed)) == (bound, reached)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_a_loopback_host_is_refused_on_a_cluster(host: str) -> None:
    with pytest.raises(SettingRefused, match=rf"host = {host} cannot be reached from the other nodes.*{NODE}"):
        on_node(settings(host=host), NODE)


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("0.0.0.0", "stands for every address"),
        ("::", "stands for every address"),
        ("http://gpu-7", "without a scheme, port or path"),
        ("gpu-7:8000", "without a scheme, port or path"),
        ("", "is not a host name"),
        ("user@gpu-7", "is not a host name"),
    ],
)
def test_an_advertised_host_is_a_single_name_or_address(host: str, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        settings(advertised_host=host)


def test_addresses_of_either_family_are_written_as_urls_have_them() -> None:
    assert local_host("::") == "::1"
    assert shown_address(keyed_address("fd00::7", 8000, "k")) == "http://[fd00::7]:8000"
