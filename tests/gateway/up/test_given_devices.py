"""Each replica's server sees the devices that Ray reserved for the replica, and no replica is placed without room."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
NEEDS = {"kind": "vllm", "gpus": 1, "resources": {"fast_disk": 0.25}, "labels": {"zone": "in(a, b)"}}


async def devices_of_server(folder: Path) -> str:
    """Start a child as engines are started, and return the devices that it sees."""
    from engines.process import ChildProcess

    program = "import os; print(os.environ.get('CUDA_VISIBLE_DEVICES'))"
    child = await ChildProcess.spawn([sys.executable, "-c", program], {}, folder / "log")
    await child.wait()
    return child.last_log_lines(1).strip()


class Replica:
    """An actor that is placed as a replica is."""

    def __init__(self, folder: str) -> None:
        Path(folder).mkdir()
        self._folder = Path(folder)

    def devices(self) -> str:
        """Return the devices of its server."""
        return asyncio.run(devices_of_server(self._folder))


def place(folder: Path) -> dict[str, Any]:
    """Place replicas on a cluster whose one node has two GPUs, by name at least."""
    import ray

    from gateway.engines_settings import engines_settings
    from gateway.up.cluster.placement_options import placement_options

    ray.init(
        _node_ip_address="127.0.0.1",
        num_cpus=2,
        num_gpus=2,
        resources={"fast_disk": 1},
        labels={"zone": "a"},
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=80 * 1024 * 1024,
    )

    def replicas(count: int, **fields: Any) -> list[Any]:
        (pool,) = engines_settings(NEEDS | fields, {}).pools
        options = placement_options(pool)["ray_actor_options"]
        return [ray.remote(Replica).options(**options).remote(str(folder / f"{fields}{at}")) for at in range(count)]

    def seen(actors: list[Any]) -> list[str]:
        ready, _ = ray.wait([actor.devices.remote() for actor in actors], num_returns=len(actors), timeout=90)
        return sorted(ray.get(ready))

    whole = replicas(2)
    answers: dict[str, Any] = {"whole": seen(whole)}
    third = replicas(1, gpus=2, engine={"tensor_parallel": 2})
    answers["without room"] = ray.wait([third[0].devices.remote()], timeout=2)[0]
    for actor in whole:
        ray.kill(actor)
    answers["both"] = seen(third)
    ray.kill(third[0])
    answers["shares"] = seen(replicas(4, gpus=0.5))
    answers["elsewhere"] = ray.wait([replicas(1, labels={"zone": "!a"})[0].devices.remote()], timeout=2)[0]
    ray.shutdown()
    return answers


@pytest.mark.long
def test_servers_get_the_devices_that_ray_reserved(tmp_path: Path) -> None:
    program = (
        "import json, pathlib, sys; from tests.gateway.up.test_given_devices import place; "
        "print(json.dumps(place(pathlib.Path(sys.argv[1]))))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert json.loads(run.stdout.splitlines()[-1]) == {
        "whole": ["0", "1"],
        "without room": [],
        "both": ["0,1"],
        "shares": ["0", "0", "1", "1"],
        "elsewhere": [],
    }
