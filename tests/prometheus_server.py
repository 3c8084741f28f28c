"""A Prometheus of the tests, which scrapes one Lorry and evaluates our rules."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
import yaml

from engines.bound_child import die_with_parent
from engines.drivers.server_process import free_port
from tests.waiting import wait_for

HOST: Final = "127.0.0.1"


class PrometheusServer:
    """A Prometheus on a free port of this machine; it dies with the tests."""

    def __init__(self, folder: Path, target: str, rules: Path) -> None:
        """Scrape *target* (`host:port`) once a second, and keep everything below *folder*."""
        binary = shutil.which("prometheus")
        if binary is None:
            pytest.fail("no prometheus: `make prometheus`", pytrace=False)
        scraped = {"job_name": "lorry", "static_configs": [{"targets": [target]}]}
        every = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        settings = folder / "prometheus.yml"
        settings.write_text(yaml.safe_dump({"global": every, "rule_files": [str(rules)], "scrape_configs": [scraped]}))
        self._url = f"{HOST}:{free_port(HOST)}"
        self._began = time.time()
        options = (f"--config.file={settings}", f"--storage.tsdb.path={folder / 'data'}")
        self._process = subprocess.Popen(
            [binary, *options, f"--web.listen-address={self._url}", "--log.level=error"],
            preexec_fn=partial(die_with_parent, os.getpid(), signal.SIGKILL),  # noqa: PLW1509
        )
        self._client = httpx2.Client(base_url=f"http://{self._url}/api/v1", timeout=60, trust_env=False)
        wait_for(self._answers)

    def stop(self) -> None:
        """End the server."""
        self._client.close()
        self._process.kill()
        self._process.wait(timeout=60)

    def values(self, expr: str) -> list[float]:
        """Return every finite value that the expression ever had since the start, of all of its series."""
        asked = {"query": expr, "start": str(self._began), "end": str(time.time()), "step": "2"}
        body = self._client.get("/query_range", params=asked).json()
        assert body["status"] == "success", (expr, body)
        pairs = [pair for series in body["data"]["result"] for pair in series["values"]]
        return [float(text) for _, text in pairs if text not in {"NaN", "+Inf", "-Inf"}]

    def rules(self) -> list[dict[str, Any]]:
        """Return every rule with its `health`, `lastError` and, of an alert, its `state`."""
        groups = self._client.get("/rules").json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def _answers(self) -> bool:
        assert self._process.poll() is None, "Prometheus has ended"
        try:
            return self._client.get("/status/buildinfo").status_code == 200
        except httpx2.TransportError:
            return False
