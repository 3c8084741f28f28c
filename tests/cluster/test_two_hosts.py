"""Two hosts, a story: Lorry comes to a Ray cluster in two ways, trains on one host and serves on both.

The tests share one cluster and run in their order.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest

from tests.cluster.lab import Host
from tests.cluster.two_hosts import BASE, START_S, TwoHosts
from tests.engines.random_adapter import write_adapter
from tests.waiting import wait_for

pytestmark = pytest.mark.cluster


def inner(process: psutil.Process) -> psutil.Process:
    """Return what `nsenter` runs on the host."""
    (child,) = wait_for(process.children)
    return child


def test_a_command_attaches_and_takes_only_its_own_with_it(hosts: TwoHosts) -> None:
    up = ("lorry", "up", "--ray-address", hosts.ray_address)
    refused = hosts.head.run(*up, code=1)
    assert "make the first key with `lorry keys create --home" in refused
    hosts.make_key()
    begun = hosts.head.begin(*up, log="up.log")
    wait_for(lambda: "Lorry is ready" in hosts.head.log("up.log") or begun.poll() is not None, START_S)
    ready = hosts.head.log("up.log")
    assert f"{hosts.url(hosts.a)}/v1, {hosts.url(hosts.b)}/v1 serve {BASE}" in ready
    assert hosts.chat(hosts.a, BASE, "hi").status_code == hosts.chat(hosts.b, BASE, "hi").status_code == 200
    again = hosts.head.run(*up, code=1)
    assert "are on the cluster already" in again
    inner(psutil.Process(begun.pid)).send_signal(signal.SIGINT)
    assert begun.wait(timeout=120) == 0, hosts.head.log("up.log")
    assert "Lorry is removed; the cluster runs on." in hosts.head.log("up.log")
    nothing = hosts.head.run("lorry", "down", "--ray-address", hosts.ray_address, code=1)
    assert "has no application of Lorry" in nothing


def test_what_does_not_suit_a_cluster_is_refused(hosts: TwoHosts) -> None:
    up = ("lorry", "up", "--ray-address", hosts.ray_address)
    assert "url is sqlite: set LORRY_REGISTRY" in hosts.head.run(*up, code=1, LORRY_REGISTRY="")
    assert "artifacts is not set" in hosts.head.run(*up, code=1, LORRY_CONFIG="")
    stranger = hosts.head.run(*up, code=1, RAY_AUTH_TOKEN="0" * 32)
    assert "RAY_AUTH_TOKEN must be the cluster's" in stranger


def test_serve_deploy_builds_the_same_and_hosts_answer_across(deployed: TwoHosts) -> None:
    addresses = set(deployed.engines_at(deployed.a))
    assert addresses == {deployed.a.address, deployed.b.address}
    for host in (deployed.a, deployed.b):
        assert deployed.get(host, "/-/healthz").text == "success"


def test_a_job_on_one_host_is_served_on_both(deployed: TwoHosts, learner: str) -> None:
    deployed.wait_until_both_serve(learner)


@pytest.mark.usefixtures("learner")  # a publication needs its trainer
def test_a_canary_and_its_rollback_reach_both_gateways(deployed: TwoHosts, tmp_path: Path) -> None:
    hosts = deployed
    for seed in (1, 2):
        folder = write_adapter(tmp_path / f"s{seed}", hosts.lab.folder / BASE, seed, rank=4, strength=0.2)
        hosts.lorry(hosts.a, "adapters", "publish", str(folder), "--name", "support", "--base", BASE)
    wait_for(lambda: '"stable": 1' in hosts.lorry(hosts.a, "adapters", "show", "support", "--json"), START_S)
    hosts.lorry(hosts.a, "rollout", "start", "support@2", "--steps", "50,100", "--no-judge", "--json")
    for host in (hosts.a, hosts.b):
        seen: set[str] = set()

        def both(host: Host = host, seen: set[str] = seen) -> bool:
            seen.add(hosts.chat(host, "support", f"conversation {len(seen)} {os.urandom(4).hex()}").json()["model"])
            return len(seen) == 2

        wait_for(both, START_S)
        assert seen == {"support@1", "support@2"}
    hosts.lorry(hosts.b, "rollout", "promote", "support")
    for revision, undo in ((2, False), (1, True)):
        if undo:
            hosts.lorry(hosts.b, "rollback", "support")
        for host in (hosts.a, hosts.b):
            wait_for(
                lambda host=host, revision=revision: (  # type: ignore[misc]
                    hosts.chat(host, "support", os.urandom(4).hex()).json()["model"] == f"support@{revision}"
                ),
                START_S,
            )
