"""Everything that the dashboards show is there: a live Lorry at work, and a real Prometheus that scrapes it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, Final

import httpx2
import openai
import pytest

from tests.deploy.monitoring_files import RULES, panel_queries
from tests.prometheus_server import PrometheusServer
from tests.trainer.tiny_base import save_base, write_chats
from tests.up_process import Up
from tests.waiting import wait_for

pytestmark = pytest.mark.scenario

BASE: Final = "tiny"
CONFIG: Final = """
[[engines.pools]]
name = "small"
base = "{base}"
engine = {{ max_context = 256, max_batch = 8 }}
"""
JOB_S: Final = 180.0
RATE_S: Final = 10
NOT_STAGED: Final = {"Won comparisons"}
"""Panels of what needs more than a tiny model can give: a judge model whose verdicts are valid."""


@pytest.fixture(scope="module")
def base_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base model with random weights."""
    folder: Path = tmp_path_factory.mktemp("base") / BASE
    save_base(folder)
    return folder


@pytest.fixture(scope="module")
def settings(base_path: Path) -> str:
    return CONFIG.format(base=base_path)


@pytest.fixture
def prometheus(up: Up, tmp_path: Path) -> Iterator[PrometheusServer]:
    server = PrometheusServer(tmp_path, f"127.0.0.1:{up.port}", RULES)
    yield server
    server.stop()


class Users:
    """Clients of the base model and of an adapter, who rate what they get, until they are told to stop."""

    def __init__(self, up: Up, adapter: str) -> None:
        self._up = up
        self._adapter = adapter
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def stop(self) -> None:
        """Return when the last answer has come."""
        self._stop.set()
        self._thread.join()

    def _ask(self) -> None:
        with self._up.client() as client:
            for number in count():
                if self._stop.is_set():
                    return
                for model in (BASE, self._adapter):
                    self._chat(client, model, f"user-{number}")

    def _chat(self, client: openai.OpenAI, model: str, user: str) -> None:
        asked: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": "Tell me."}], "user": user}
        try:
            stream = client.chat.completions.create(**asked, max_tokens=8, stream=True)
            chunks = list(stream)
        except (openai.NotFoundError, openai.InternalServerError):  # until the first revision is there, and stable
            return
        httpx2.post(f"{self._up.url}/v1/feedback", json={"completion_id": chunks[0].id, "score": 0.5}, trust_env=False)


def begin(client: openai.OpenAI, file_id: str, n_epochs: int, **fields: Any) -> str:
    """A new job of the adapter `support`: its id."""
    hyperparameters = {"learning_rate": 0.02, "n_epochs": n_epochs, "batch_size": 1}
    return client.fine_tuning.jobs.create(
        model=BASE,
        training_file=file_id,
        suffix="support",
        extra_body={"hyperparameters": hyperparameters, **fields},
    ).id


def end_of(client: openai.OpenAI, job_id: str) -> str:
    """The status of the job once it has ended."""
    ends = {"succeeded", "failed", "cancelled"}
    wait_for(lambda: client.fine_tuning.jobs.retrieve(job_id).status in ends, JOB_S)
    return client.fine_tuning.jobs.retrieve(job_id).status


@pytest.fixture
def client(up: Up) -> Iterator[openai.OpenAI]:
    with up.client() as opened:
        yield opened


def _still_silent(prometheus: PrometheusServer, asked: Mapping[str, str], silent: set[str]) -> set[str]:
    """Take the panels whose query returns a series now out of *silent*, and return it."""
    silent.difference_update({panel for panel in silent if prometheus.values(asked[panel])})
    return silent


def test_every_panel_has_a_series_and_every_rule_can_be_evaluated(
    up: Up, client: openai.OpenAI, prometheus: PrometheusServer, tmp_path: Path
) -> None:
    chats = tmp_path / "chats.jsonl"
    write_chats(chats, 16)
    file_id = client.files.create(file=chats, purpose="fine-tune").id
    users = Users(up, "support")
    try:
        assert end_of(client, begin(client, file_id, 8)) == "succeeded"
        wait_for(lambda: prometheus.values('gateway_adapter_replicas{side="stable"} > 0'), JOB_S)
        unwanted = begin(client, file_id, 50)
        needs_it = begin(client, file_id, 1, after=[unwanted])
        wait_for(lambda: prometheus.values("deriv(gateway_running_job_trained_tokens[2m]) > 0"), JOB_S)
        wait_for(lambda: prometheus.values("gateway_running_job_finish_timestamp_seconds"), JOB_S)
        client.fine_tuning.jobs.cancel(unwanted)
        assert end_of(client, needs_it) == "failed"
        assert end_of(client, begin(client, file_id, 2)) == "succeeded"
        up.lorry("rollout", "start", "support@2", "--steps", "50,100", "--every", "1h", "--no-judge")
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model="ghost", messages=[{"role": "user", "content": "hi"}])
        asked = {query.panel: query.over(RATE_S) for query in panel_queries() if query.panel not in NOT_STAGED}
        silent = set(asked)
        with suppress(AssertionError):
            wait_for(lambda: not _still_silent(prometheus, asked, silent))
        assert silent == set()
    finally:
        users.stop()
    wait_for(lambda: all(rule["health"] == "ok" for rule in prometheus.rules()))
    firing = {rule["name"] for rule in prometheus.rules() if rule.get("state") == "firing"}
    assert firing == set()
