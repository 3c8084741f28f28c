"""`POST /admin/estimates` and `lorry estimate` over a real registry; a finished job corrects what comes after it."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from gateway.app import build_app, build_gateway
from gateway.cli.training.estimate import app as estimate_command
from gateway.settings import GatewaySettings
from registry.database import Registry
from registry.jobs.scheduling.room import TrainerWorker
from registry.types import Base
from tests.estimates.models import SEVEN_B, SMOL, config_of
from tests.gateway.openai.test_openai_face import ROWS, jsonl

SMALL = {
    "type": "supervised",
    "supervised": {"hyperparameters": {"batch_size": 2, "lora_rank": 2, "target_modules": ["q_proj"]}},
}


@pytest.fixture
def http(sqlite_registry: Registry, base: Base) -> Iterator[TestClient]:
    (Path(base.path) / "config.json").write_text(json.dumps(config_of("llama", (2, 32, 4, 2, 64, 128))))
    sqlite_registry.bases.enter(base)
    app = build_app(build_gateway(GatewaySettings(), sqlite_registry))
    with TestClient(app, base_url="http://localhost") as client:
        yield client


def ask(http: TestClient, **body: Any) -> Any:
    answer = http.post("/admin/estimates", json=body)
    return answer.json() if answer.status_code == 200 else answer.json()["error"]


def test_a_config_that_is_nowhere_here_is_estimated_for_a_named_device(http: TestClient) -> None:
    made = ask(http, config=SEVEN_B, method=SMALL, length=2048, rows=100, device="a100-80")
    assert made["object"] == "estimate.training"
    assert (made["parameters"], made["fits"], made["rows"]) == (7_615_616_512, True, 100)
    assert sum(made["parts"].values()) == made["peak_bytes"]
    assert made["largest_batch"] >= 1
    assert made["change"] is None


def test_what_does_not_fit_is_told_with_the_change_that_helps(http: TestClient) -> None:
    made = ask(http, config=SEVEN_B, length=4096, device="rtx4090")
    assert made["fits"] is False
    assert made["change"]["settings"] or made["change"]["device"]


def test_serving_is_estimated_from_a_config(http: TestClient) -> None:
    made = ask(http, work="serve", config=SEVEN_B, device="a100-80", serve={"context": 8192})
    assert (made["object"], made["fits"], made["context"]) == ("estimate.serving", True, 8192)
    assert made["kv_bytes_per_token"] == 57_344
    small = ask(http, work="serve", config=SEVEN_B, device="a100-80", memory="12GiB", serve={"precision": "bf16"})
    assert small["fits"] is False
    assert "GB" in small["refusal"]


REFUSED: Final[Sequence[tuple[dict[str, Any], str, str]]] = (
    ({}, "model", "give model"),
    ({"model": "tiny", "config": SMOL}, "model", "give model"),
    ({"config": SMOL, "device": "abacus"}, "device", "a100-80"),
    ({"config": SMOL, "memory": "much"}, "memory", "24GiB"),
    ({"config": {"model_type": "llama"}, "length": 64}, "config", "no '"),
    ({"config": SMOL, "training_file": "file-0", "rows": 3}, "rows", "does not go with training_file"),
    ({"config": SMOL, "serve": {"context": 10}}, "serve", "work 'train'"),
    ({"work": "serve", "config": SMOL, "rows": 10}, "rows", "work 'serve'"),
    ({"config": SMOL, "learnt": 100, "length": 50}, "learnt", "less than length"),
    ({"config": SMOL, "length": 10**9}, "length", "at most"),
    ({"config": SMOL, "training_file": "file-0"}, "training_file", "does not exist"),
    ({"model": "huge"}, "model", "tiny"),
    ({"config": SMOL, "bandwith": 3}, "bandwith", "unknown field"),
)
"""Bodies that cannot be estimated, each with the field at fault and words of the message."""


def test_what_cannot_be_estimated_is_refused_with_its_field(http: TestClient) -> None:
    for body, param, words in REFUSED:
        error = ask(http, **body)
        assert (error["param"], words in error["message"]) == (param, True), error


def test_a_finished_job_corrects_the_estimate_of_the_next_one(http: TestClient, sqlite_registry: Registry) -> None:
    file = http.post("/v1/files", files={"file": jsonl(ROWS)}, data={"purpose": "fine-tune"}).json()["id"]
    body = {"model": "tiny", "training_file": file, "method": SMALL}
    job = http.post("/v1/fine_tuning/jobs", json={**body, "suffix": "support"}).json()
    asked = ask(http, **body)
    assert job["lorry"]["needed_bytes"] == asked["peak_bytes"]
    assert job["lorry"]["estimate"]["source"] == "formula"
    assert asked["corrected_by"] == 0
    peak = round(1.25 * asked["peak_bytes"])
    sqlite_registry.measurements.add_measured(job["id"], socket.gethostname(), peak, 3 * asked["seconds"])
    after = ask(http, **body)
    assert (after["corrected_by"], after["timed_by"]) == (1, 1)
    assert after["peak_bytes"] == pytest.approx(peak, rel=0.001)
    # Another machine's jobs, and another device, are no ground.
    sqlite_registry.measurements.add_measured(job["id"], "elsewhere", peak, 1.0)
    assert ask(http, **body)["corrected_by"] == 0


def run(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(estimate_command, [*words])
    return done.exit_code, done.output


def test_the_command_needs_no_gateway_for_a_config(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(SEVEN_B))
    words = ("train", "--model", str(tmp_path / "config.json"), "--length", "1024", "--json")
    code, shown = run(*words, "--device", "h100")
    assert (code, json.loads(shown)["fits"]) == (0, True)
    code, shown = run(*words, "--device", "t4", "--set", "weights=full")
    assert (code, json.loads(shown)["fits"]) == (3, False)
    code, shown = run("serve", "--model", str(tmp_path), "--device", "h100")
    assert code == 0
    assert "keys and values" in shown


def test_the_command_counts_the_rows_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(SMOL))
    name, lines = jsonl(ROWS)
    (tmp_path / name).write_bytes(lines)
    code, shown = run("train", "--model", str(tmp_path), "--data", str(tmp_path / name), "--json")
    assert code == 0
    assert json.loads(shown)["rows"] == len(ROWS)
    code, shown = run("train", "--model", str(tmp_path), "--data", str(tmp_path / name), "--rows", "3")
    assert (code, "--rows" in shown) == (2, True)


def test_a_job_that_no_worker_holds_is_refused_with_its_parts(http: TestClient, sqlite_registry: Registry) -> None:
    sqlite_registry.workers.report(TrainerWorker(name="w1", device="cpu", total_bytes=10**8))
    file = http.post("/v1/files", files={"file": jsonl(ROWS)}, data={"purpose": "fine-tune"}).json()["id"]
    body = {"model": "tiny", "training_file": file, "method": SMALL, "suffix": "support"}
    answer = http.post("/v1/fine_tuning/jobs", json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "job_too_large")
    assert "it takes 0.5 GB process" in error["message"], error
