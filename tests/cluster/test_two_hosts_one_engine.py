"""Two hosts, the last part of the story: a vLLM of which each host has half of every layer begins and ends as a whole.

The tests share one cluster with those of the other parts, run in their order, and leave both hosts serving.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from tests.cluster.lab import Host
from tests.cluster.two_hosts import OVER_HOSTS, START_S, TwoHosts
from tests.contract.kinds import interpreter_of
from tests.trainer.tiny_base import save_base, write_chats
from tests.waiting import wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.vllm]
BASE: Final = "wide"
POOL: Final = """
[[engines.pools]]
name = "over-hosts"
kind = "vllm"
base = "{base}"
nodes = 2
resources = {{ {resource} = 0.01 }}
engine = {{ interpreter = "{python}", tensor_parallel = 2, max_context = 256, max_batch = 4, max_adapters = 2 }}
"""
APPLICATION: Final = """
  - name: over-hosts
    route_prefix: null
    import_path: gateway.up.builders:engines_app
    args: {{config: {config}, pool: over-hosts}}
"""
PART: Final = "lorry_vllm_rank"
"""In the command of the part on the second host."""


@pytest.fixture(scope="module")
def over_hosts(deployed: TwoHosts) -> Iterator[TwoHosts]:
    """The cluster, with one pool more, whose engine has a part on each host; without it after the tests."""
    hosts = deployed
    save_base(hosts.lab.folder / BASE, hidden=128)
    for host in (hosts.head, hosts.a, hosts.b):
        shutil.copytree(hosts.lab.folder / BASE, host.disk / BASE)
    config = hosts.lab.folder / "over-hosts.toml"
    pool = POOL.format(base=hosts.lab.home / BASE, python=interpreter_of("vllm"), resource=OVER_HOSTS)
    config.write_text(f"{hosts.settings}\n{pool}")
    three = hosts.applications.read_text()
    hosts.applications.write_text(three + APPLICATION.format(config=config))
    hosts.deploy()
    yield hosts
    hosts.applications.write_text(three)
    hosts.deploy()
    wait_for(lambda: not processes_at(hosts.a, "vllm") and not processes_at(hosts.b, "vllm"), START_S)


PROCESSES: Final = """
import json, os, psutil
found = psutil.process_iter(["pid", "name", "cmdline"])
words = {each.info["pid"]: " ".join([each.info["name"], *(each.info["cmdline"] or [])]).lower() for each in found}
print(json.dumps([pid for pid, text in words.items() if os.environ["WORD"] in text]))
"""


def processes_at(host: Host, word: str) -> list[int]:
    """Return the processes on *host* with *word* in their name or command, by their numbers there."""
    found: list[int] = json.loads(host.run(sys.executable, "-c", PROCESSES, WORD=word))
    return found


def replica(hosts: TwoHosts, asked: Host) -> Mapping[str, Any] | None:
    """Return the row of the pool's ready replica, as the gateway of *asked* has it."""
    return next(
        (row for row in hosts.replicas_at(asked) if row["pool"] == "over-hosts" and row["state"] == "ready"), None
    )


def first_and_second(hosts: TwoHosts) -> tuple[Host, Host]:
    """Return the host with the server and the host with the other part, once the replica is ready."""
    row = wait_for(lambda: replica(hosts, hosts.a), START_S)
    assert row is not None
    return (hosts.a, hosts.b) if hosts.a.address in row["url"] else (hosts.b, hosts.a)


def test_it_answers_at_every_gateway(over_hosts: TwoHosts) -> None:
    hosts = over_hosts
    first, second = first_and_second(hosts)
    assert not processes_at(first, PART) and processes_at(second, PART)
    for host in (hosts.a, hosts.b):
        wait_for(lambda host=host: hosts.chat(host, BASE, "hi").status_code == 200, START_S)  # type: ignore[misc]


def test_an_adapter_is_proved_with_a_copy_on_either_disk(over_hosts: TwoHosts, tmp_path: Path) -> None:
    hosts = over_hosts
    hosts.b.begin("lorry", "trainer", log="trainer-wide.log")
    rows = write_chats(tmp_path / "rows.jsonl")
    words = ("train", "sft", "--data", str(rows), "--name", "wider", "--model", BASE, "--set", "n_epochs=1", "--json")
    job = json.loads(hosts.lorry(hosts.a, *words))["id"]
    path = f"/v1/fine_tuning/jobs/{job}"
    wait_for(lambda: hosts.get(hosts.a, path).json()["status"] in ("succeeded", "failed"), START_S)
    assert hosts.get(hosts.a, path).json()["status"] == "succeeded", hosts.b.log("trainer-wide.log")
    assert is_proved(hosts, "wider")
    assert hosts.chat(hosts.a, "wider", "hi").status_code == 200
    artifact = hosts.get(hosts.a, "/admin/adapters/wider").json()["revisions"][0]["artifact"]
    for host in (hosts.a, hosts.b):
        copies = [path for path in (host.disk / "cache").rglob("adapter_model.safetensors") if artifact in str(path)]
        assert copies, f"no copy on {host.name}"


def is_proved(hosts: TwoHosts, name: str) -> bool:
    """Wait until the replica is ready with the adapter loaded and proved."""

    def proved() -> bool:
        row = replica(hosts, hosts.a)
        slots = {slot["served_name"].partition("@")[0]: slot for slot in row["slots"]} if row else {}
        return name in slots and slots[name]["state"] == "ready" and bool(slots[name]["proof"]["passed"])

    return wait_for(proved, START_S)


def test_the_end_of_one_part_is_the_end_of_both_and_both_begin_anew(over_hosts: TwoHosts) -> None:
    hosts = over_hosts
    first, second = first_and_second(hosts)
    servers, parts = processes_at(first, "api_server"), processes_at(second, PART)
    second.run("kill", "-9", str(max(parts)))
    wait_for(lambda: not set(servers) & set(processes_at(first, "api_server")), START_S)
    wait_for(lambda: set(processes_at(second, PART)) - set(parts), START_S)
    assert not set(parts) & set(processes_at(second, PART))
    assert is_proved(hosts, "wider")
    wait_for(lambda: hosts.chat(hosts.a, "wider", "hi").status_code == 200, START_S)


def test_a_host_that_dies_takes_the_engine_with_it_until_there_are_two_again(over_hosts: TwoHosts) -> None:
    hosts = over_hosts
    first, second = first_and_second(hosts)
    row = replica(hosts, first)
    assert row is not None
    second.end()
    wait_for(lambda: replica(hosts, first) is None, START_S)
    hosts.tell(f"{second.name} lost its power; the engine over both is gone")
    second.start()
    hosts.join(second)
    wait_for(lambda: (now := replica(hosts, first)) is not None and now["id"] != row["id"], START_S)
    assert is_proved(hosts, "wider")
    hosts.tell("it is back, a new replica, with its adapter proved")
