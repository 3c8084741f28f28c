"""Quantizations over HTTP: a job with everything decided, or a refusal that names the field."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from starlette.testclient import TestClient

from engines.environments.record import EnvironmentRecord, environment_folder, write_record
from gateway.app import build_app, build_gateway
from gateway.objects.weights.quantizations import QuantizationObject
from gateway.settings import GatewaySettings
from registry.contracts.quantizations.quantization_report import QuantizationReport, judge, score
from registry.database import Registry
from registry.jobs.job import Lease
from registry.jobs.job_moves import JobNote
from registry.types import Base

ROWS = "".join(
    json.dumps({"messages": [{"role": "user", "content": f"q{at}"}, {"role": "assistant", "content": f"a{at}"}]}) + "\n"
    for at in range(20)
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home in which the tool's environment counts as whole."""
    folder = tmp_path / "home"
    environment_folder(folder, "quantize").mkdir(parents=True)
    write_record(folder, EnvironmentRecord(kind="quantize", variant="cpu", digest="d", is_installed=True, version="1"))
    return folder


@pytest.fixture
def http(two_revisions: Registry, home: Path) -> Iterator[TestClient]:
    gateway = build_gateway(GatewaySettings(route_refresh_s=0.02), two_revisions, home=home)
    with TestClient(build_app(gateway), base_url="http://localhost") as client:
        yield client


def body(http: TestClient, **changes: Any) -> dict[str, Any]:
    upload = {"file": ("rows.jsonl", ROWS.encode())}
    file = http.post("/v1/files", files=upload, data={"purpose": "fine-tune"}).json()["id"]
    return {"model": "support@2", "calibration_file": file, "scheme": "w8a8-int8", **changes}


def test_a_quantization_is_a_job_with_everything_decided(http: TestClient, two_revisions: Registry) -> None:
    asked = body(http, max_rise=0.1, waive=["chinese"], seed=3)
    answer = http.post("/admin/quantizations", json=asked)
    assert answer.status_code == 200, answer.text
    made = QuantizationObject.model_validate(answer.json())
    assert (made.model, made.base, made.status, made.samples) == ("support@2", "tiny", "queued", 16)
    assert (made.max_rise, made.waived, made.report) == (0.1, ["chinese"], None)
    spec = http.get(f"/admin/jobs/{made.id}").json()["spec"]
    assert spec["artifact"] == two_revisions.adapters.named("support@2").artifact
    assert (spec["adapter"], spec["seed"]) == ("support-w8a8-int8", 3)
    listed = http.get("/admin/jobs").json()["data"]
    assert [each["id"] for each in listed if each["method"]["type"] == "quantize"] == [made.id]
    assert http.get("/admin/quantizations/ftjob-1").status_code == 404


def test_auto_says_why(http: TestClient) -> None:
    made = http.post("/admin/quantizations", json=body(http, scheme="auto")).json()
    assert made["chosen_because"]
    events = http.get(f"/admin/jobs/{made['id']}/events").json()["data"]
    assert any(f"auto chose {made['scheme']}: {made['chosen_because']}" in event["message"] for event in events)


@pytest.mark.parametrize(
    ("changes", "status", "message"),
    [
        ({"model": "support"}, 404, "base models and checkpoints are in `lorry models list`"),
        ({"model": "support@9"}, 404, "support"),
        ({"scheme": "int3"}, 400, "scheme"),
        ({"scheme": "w4a16-gptq"}, 422, "none of these divides all widths of the model"),
        ({"group_size": 64}, 422, "group_size: w8a8-int8 has no groups"),
        ({"samples": 17}, 422, "20 rows, of which 4 are kept to score the result, so 16 are left for 17 samples"),
        ({"samples": 0}, 400, "samples"),
        ({"max_rise": -1}, 400, "max_rise"),
        ({"max_length": 1}, 400, "max_length"),
        ({"waive": ["french"]}, 400, "waive"),
        ({"pools": ["nowhere"]}, 400, "there is no pool 'nowhere'"),
        ({"name": "Not Legal"}, 400, "'not-legal' would do"),
        ({"calibration_file": "file-9"}, 400, "calibration_file 'file-9' does not exist"),
        ({"shceme": "fp8"}, 400, "shceme"),
    ],
)
def test_what_cannot_be_quantized_is_refused_with_the_reason(
    http: TestClient, changes: dict[str, Any], status: int, message: str
) -> None:
    answer = http.post("/admin/quantizations", json=body(http, **changes))
    assert (answer.status_code, message in answer.json()["error"]["message"]) == (status, True), answer.text


def test_without_the_tool_nothing_is_queued_and_the_answer_has_the_command(http: TestClient, home: Path) -> None:
    (environment_folder(home, "quantize") / "lorry-environment.json").unlink()
    answer = http.post("/admin/quantizations", json=body(http))
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "tool_missing")
    assert "lorry envs install quantize" in answer.json()["error"]["message"]
    assert http.get("/admin/jobs").json()["data"] == []


def test_a_quantized_base_is_refused(http: TestClient, base: Base) -> None:
    asked, path = body(http), Path(base.path) / "model.safetensors"
    weights = load_file(path)
    name = next(iter(weights))
    save_file(weights | {name: weights[name].astype(np.int8)}, path)
    answer = http.post("/admin/quantizations", json=asked)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "model")
    assert f"tiny is quantized already: model.safetensors: {name} is I8" in answer.text


def report() -> QuantizationReport:
    scores = {"english": score(20.0, 20.5), "chinese": score(10.0, 12.0), "calibration": score(5.0, 5.1)}
    return QuantizationReport(
        scheme="w8a8-int8",
        group_size=None,
        bits_per_weight=9.7,
        linear_bits_per_weight=8.1,
        size_bytes=163_000_000,
        base_size_bytes=269_000_000,
        perplexity=scores,
        window=512,
        stride=256,
        scored_tokens=dict.fromkeys(scores, 700),
        texts={"english": "e", "chinese": "c"},
        agreement=0.91,
        same_answers=0.5,
        prompts=4,
        answer_tokens=128,
        samples=16,
        scored_rows=4,
        gate=judge(scores, 0.05, ()),
    )


def test_the_scores_of_a_refused_checkpoint_stay_with_its_job(http: TestClient, two_revisions: Registry) -> None:
    made = http.post("/admin/quantizations", json=body(http)).json()
    lease: Lease | None = two_revisions.jobs.claim("w1", 60.0)
    assert lease is not None
    measured = report()
    note = JobNote(message=measured.verdict, data={"quantization": measured.model_dump(mode="json")})
    two_revisions.jobs.add_event(lease, "event-1", note)
    shown = QuantizationObject.model_validate(http.get(f"/admin/quantizations/{made['id']}").json())
    assert shown.report == measured
    assert measured.verdict.startswith("perplexity rose by more than 5.0% on chinese: english 20.00 to 20.50 (+2.5%)")
    assert http.get(f"/admin/jobs/{made['id']}").json()["report"]["gate"]["refused"] == ["chinese"]
