"""A Ray cluster of a head and two hosts in the lab, with PostgreSQL and a bucket, on which Lorry is deployed.

Settings and applications are those that the chart renders, and the hosts offer what its pods do.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import httpx2
import sqlalchemy as sa

from tests.cluster.lab import Host, Lab, ray_start, ray_variables
from tests.deploy.rendered_chart import Renderer, groups, one, settings_text
from tests.seaweedfs import BUCKET, credentials
from tests.trainer.tiny_base import save_base
from tests.up_process import LORRY
from tests.waiting import wait_for

PORT: Final = 8080
CONFIG: Final = Path("/etc/lorry/lorry.toml")
"""Where the pods of the chart have their settings."""
BASE: Final = "tiny"
START_S: Final = 400.0
"""Ray and all of Lorry on two hosts, on a machine that is busy with other tests."""
OVER_HOSTS: Final = "lorry"
"""A resource of each host beside those that the chart gives its pods."""


def chart_values(base: Path) -> Mapping[str, Any]:
    """Return values of the chart: a gateway and an engine on each host, none on the head."""
    return {
        "artifacts": {"url": f"s3://{BUCKET}/lorry"},
        "gateway": {"pods": 2, "processesPerPod": 1},
        "settings": {
            "gateway": {"heartbeat_timeout_s": 5, "stale_after_s": 2},
            "trainer": {"nice_beside_engines": 5},
        },
        "pools": [
            {
                "name": "small",
                "kind": "transformers",
                "base": str(base),
                "minReplicas": 2,
                "engine": {"max_context": 256, "max_batch": 8},
            }
        ],
    }


class TwoHosts:
    """Hosts `a` and `b`, which may have gateways and engines, and the head of Ray, which has neither."""

    def __init__(self, lab: Lab, registry: sa.URL, store: str) -> None:
        """Start the head and both hosts; nothing of Lorry is deployed yet. *store* is the address of the S3 server."""
        self.lab = lab
        self.key = ""
        self._began_at = time.monotonic()
        rendered = Renderer(lab.folder).rendered(chart_values(lab.home / BASE))
        service = one(rendered, "RayService")
        self.settings = settings_text(rendered)
        self.applications = lab.folder / "serve.yaml"
        self.applications.write_text(service["spec"]["serveConfigV2"])
        offered = [group["resources"] for group in groups(service)]
        self._offered = {name: int(count) for table in offered for name, count in table.items() if name != "CPU"}
        token = secrets.token_hex(16)
        lab.environment |= {
            **ray_variables(token),
            **credentials(store),
            "LORRY_CONFIG": str(CONFIG),
            "LORRY_REGISTRY": registry.render_as_string(hide_password=False),
            "LORRY_CLUSTER_SECRET": secrets.token_hex(32),
        }
        save_base(lab.folder / BASE)
        written = {CONFIG: self.settings}
        self.head = lab.host("head", written)
        shutil.copytree(lab.folder / BASE, self.head.disk / BASE)
        self.ray_address = f"{self.head.address}:6379"
        self._begin_ray(self.head, "--head", "--port", "6379", "--dashboard-host", self.head.address)
        wait_for(lambda: "--address" in self.head.log("ray.log"), START_S)
        self.a, self.b = lab.host("host-a", written), lab.host("host-b", written)
        for host in (self.a, self.b):
            shutil.copytree(lab.folder / BASE, host.disk / BASE)
            self.join(host)

    def join(self, host: Host) -> None:
        """Start Ray on *host* as a node of the cluster; returns at once."""
        self._begin_ray(host, "--address", self.ray_address, "--resources", json.dumps(self._offered | {OVER_HOSTS: 1}))

    def _begin_ray(self, host: Host, *words: str) -> None:
        command = ray_start(host.address, "--num-cpus", "0", "--temp-dir", str(self.lab.home / "ray"), *words)
        # Ray's own start is over when its processes run; they end with the host.
        host.begin(*command, log="ray.log")

    def url(self, host: Host) -> str:
        """Return the address of the gateway on *host*."""
        return f"http://{host.address}:{PORT}"

    def make_key(self) -> None:
        """Make the first key, without a gateway."""
        self.key = json.loads(self.head.run("lorry", "keys", "create", "--home", "--name", "root", "--json"))["key"]

    def lorry(self, host: Host, *words: str, code: int = 0) -> str:
        """Run a `lorry` command outside of the hosts against the gateway of *host*; return what it prints."""
        environment = os.environ | {"LORRY_URL": self.url(host), "LORRY_API_KEY": self.key, "COLUMNS": "200"}
        told = subprocess.run(
            [*LORRY, *words], capture_output=True, text=True, env=environment, check=False, timeout=600
        )
        assert told.returncode == code, told.stdout + told.stderr
        return told.stdout

    def get(self, host: Host, path: str) -> httpx2.Response:
        """Send `GET` to the gateway of *host*."""
        headers = {"authorization": f"Bearer {self.key}"}
        return httpx2.get(f"{self.url(host)}{path}", headers=headers, timeout=30.0, trust_env=False)

    def chat(self, host: Host, model: str, text: str, key: str = "") -> httpx2.Response:
        """Ask the gateway of *host*, with the key of all tests or another *key*."""
        body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 4}
        headers = {"authorization": f"Bearer {key or self.key}"}
        return httpx2.post(
            f"{self.url(host)}/v1/chat/completions", json=body, headers=headers, timeout=60.0, trust_env=False
        )

    def is_ready(self, host: Host) -> bool:
        """Whether the gateway of *host* answers and can serve."""
        try:
            return self.get(host, "/readyz").status_code == 200
        except httpx2.HTTPError:
            return False

    def replicas_at(self, asked: Host) -> list[dict[str, Any]]:
        """Return the replicas as the gateway of *asked* has them; none, and a line for the reader, without a registry.

        A host that has just died may hold locks in the registry for some seconds.
        """
        told = self.get(asked, "/admin/replicas")
        if told.status_code == 503:
            self.tell(f"GET /admin/replicas at {asked.name}: 503 {told.json()['error']['message']}")
            return []
        rows: list[dict[str, Any]] = told.json()["data"]
        return rows

    def engines_at(self, asked: Host) -> dict[str, str]:
        """Return the pool's ready replicas by the address of their host, as the gateway of *asked* has them."""
        return {
            host.address: row["id"]
            for row in self.replicas_at(asked)
            for host in (self.a, self.b)
            if row["pool"] == "small" and row["state"] == "ready" and host.address in row["url"]
        }

    def wait_until_both_serve(self, model: str = BASE) -> None:
        """Return when each gateway has had answers of the engines on both hosts."""
        for host in (self.a, self.b):
            wait_for(lambda host=host: self.is_ready(host), START_S)  # type: ignore[misc]
            wait_for(lambda host=host: len(self.engines_at(host)) == 2, START_S)  # type: ignore[misc]
            answered: set[str] = set()
            wanted = set(self.engines_at(host).values())

            def asks(host: Host = host, answered: set[str] = answered, wanted: set[str] = wanted) -> bool:
                told = self.chat(host, model, f"question {time.monotonic()}")
                assert told.status_code == 200, told.text
                answered.add(told.headers["x-lorry-replica"])
                return answered >= wanted

            wait_for(asks, START_S)

    def wait_until_proved(self, asked: Host, new: Host, model: str) -> None:
        """Return when the engine on *new* is ready; at no moment before was it so without *model* loaded and proved."""

        def is_proved() -> bool:
            for row in self.replicas_at(asked):
                if row["state"] == "ready" and new.address in row["url"]:
                    slots = {slot["served_name"].partition("@")[0]: slot for slot in row["slots"]}
                    assert slots[model]["state"] == "ready" and slots[model]["proof"]["passed"], row
                    return True
            return False

        wait_for(is_proved, START_S)

    def tell(self, line: str) -> None:
        """Print what happens, for a person who reads the story."""
        print(f"[{time.monotonic() - self._began_at:5.0f} s] {line}", flush=True)  # noqa: T201

    def deploy(self) -> None:
        """Deploy the applications by `serve deploy`, as KubeRay does, and wait until both hosts serve."""
        command = [sys.executable, "-m", "ray.serve.scripts", "deploy", str(self.applications)]
        self.head.run(*command, "--address", f"http://{self.head.address}:8265")
        self.wait_until_both_serve()
