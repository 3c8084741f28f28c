"""Two hosts, the second part of the story: one dies under load and comes back, one loses the registry.

The tests share one cluster with those of the first part and leave both hosts serving.
"""

from __future__ import annotations

import json
import time

import pytest

from tests.cluster.client_load import client_load
from tests.cluster.two_hosts import START_S, TwoHosts
from tests.waiting import wait_for

pytestmark = pytest.mark.cluster
CLIENTS = 4
"""At each gateway; half of them read streams."""


@pytest.mark.parametrize("dies", ["host-b", "host-a"])
def test_a_host_dies_under_load_and_comes_back(deployed: TwoHosts, learner: str, dies: str) -> None:
    hosts = deployed
    dead, other = (hosts.b, hosts.a) if dies == hosts.b.name else (hosts.a, hosts.b)
    hosts.wait_until_both_serve(learner)
    (gone,) = (replica for address, replica in hosts.engines_at(other).items() if address == dead.address)
    with client_load(hosts.key, learner) as load:
        load.start((other, dead), CLIENTS)
        load.start((dead, other), CLIENTS)
        for host in (dead, other):
            load.wait_for_answers(host, 10, START_S)
        wait_for(lambda: load.under_way(dead) and load.under_way(other), START_S)
        dead.end()
        died_at = time.monotonic()
        held = load.under_way(dead)
        hosts.tell(f"{dead.name} loses its power; its gateway holds {len(held)} requests, all clients {2 * CLIENTS}")
        wait_for(lambda: not load.under_way(dead), START_S)
        hosts.tell(f"the last of them has ended {time.monotonic() - died_at:.1f} s later")
        wait_for(lambda: set(hosts.engines_at(other)) == {other.address}, START_S)
        hosts.tell(f"the gateway of {other.name} has the engine of {other.name} alone")
        load.wait_for_answers(other, 4 * CLIENTS, START_S)
        dead.start()
        hosts.join(dead)
        hosts.tell(f"{dead.name} starts again with its disk")
        hosts.wait_until_proved(other, dead, learner)
        back_at = time.monotonic()
        hosts.tell(f"its engine has {learner} loaded and proved, {back_at - died_at:.0f} s after the power went")
        back = hosts.engines_at(other)[dead.address]
        wait_for(lambda: any(each.replica == back for each in load.whole((other,), back_at)), START_S)
    failed = [each for each in load.asked if each.failed]
    at_dead = [each for each in failed if each.host == dead.name]
    broken = [each for each in failed if each.host == other.name]
    longest = max(each.ended_at - each.began_at for each in load.asked if each.ended_at and each.host == other.name)
    hosts.tell(
        f"of {len(load.asked)} requests {len(at_dead)} failed at the dead gateway, {len(broken)} streams of the dead "
        f"engine broke off at {other.name}; the longest request there took {longest:.1f} s"
    )
    # Each client leaves a gateway at its first failure, so these are the requests that the gateway held.
    assert len(at_dead) <= CLIENTS, at_dead
    assert all(each.is_streamed and each.bytes_read and each.replica == gone for each in broken), broken
    hosts.wait_until_both_serve(learner)


def test_a_host_without_registry_and_bucket_serves_on(deployed: TwoHosts, learner: str) -> None:
    hosts, away = deployed, (deployed.lab.database_address, deployed.lab.store_address)
    hosts.wait_until_both_serve(learner)
    with client_load(hosts.key, learner) as load:
        for host in (hosts.a, hosts.b):
            load.start((host,), CLIENTS)
            load.wait_for_answers(host, 10, START_S)
        hosts.tell("host-b loses the way to registry and bucket, and no packet says so")
        lost_at = time.monotonic()
        with hosts.b.losing(*away):
            wait_for(lambda: hosts.get(hosts.b, "/readyz").status_code == 503, START_S)
            assert "is the registry away?" in hosts.get(hosts.b, "/readyz").text
            see_refusals(hosts)
            made = json.loads(hosts.lorry(hosts.a, "keys", "create", "--name", "late", "--json"))["key"]
            load.wait_for_answers(hosts.b, 4 * CLIENTS, START_S)
            wait_for(lambda: set(hosts.engines_at(hosts.a)) == {hosts.a.address}, START_S)
            hosts.tell("a controller at work has told the gateway of host-a to leave the engine of host-b")
        hosts.tell(f"registry and bucket are back after {time.monotonic() - lost_at:.0f} s")
        found_at = time.monotonic()
        wait_for(lambda: hosts.is_ready(hosts.b), START_S)
        hosts.tell(f"host-b is ready {time.monotonic() - found_at:.1f} s later")
        hosts.wait_until_both_serve(learner)
    failed = [each for each in load.asked if each.failed]
    hosts.tell(f"of {len(load.asked)} requests {len(failed)} failed")
    assert not failed
    wait_for(lambda: hosts.chat(hosts.b, learner, "hi", key=made).status_code == 200, START_S)


def see_refusals(hosts: TwoHosts) -> None:
    """See what host b replies to requests that need the registry."""
    told = [hosts.get(hosts.b, path) for path in ("/admin/adapters", "/v1/fine_tuning/jobs", "/v1/files")]
    told.append(hosts.chat(hosts.b, "published-since", "hi"))
    for refused in told:
        error = refused.json()["error"]
        assert (refused.status_code, error["code"]) == (503, "registry_unavailable"), refused.text
        assert hosts.lab.database_address in error["message"] or "did not answer within" in error["message"]
        hosts.tell(f"{refused.request.method} {refused.request.url.path} there: 503 {error['message']}")
