"""A revision is made again by name; what cannot be is refused with the reason, and the report is shown."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from gateway.app import build_app, build_gateway
from gateway.cli.training.reproduce import _show
from gateway.objects.reproductions import ReproductionObject
from gateway.settings import GatewaySettings
from registry.contracts.reproductions.reproduce_spec import ReproduceSpec
from registry.contracts.reproductions.reproduction_report import (
    REPORT,
    FactDifference,
    GroupDifference,
    LossesDifference,
    ReproductionReport,
    StepDifference,
    WeightsDifference,
)
from registry.database import Registry
from registry.jobs.job_moves import JobNote
from registry.publishing.publications import Upload, queue_publication
from registry.types import Base, Revision

REPORTED = ReproductionReport(
    result="support@7",
    job_id="ftjob-1",
    same_bytes=False,
    recorded_digest="a" * 64,
    digest="b" * 64,
    differing_files=["adapter_model.safetensors"],
    facts=[FactDifference(fact="torch", recorded="2.12.0", now="2.13.0")],
    weights=WeightsDifference(
        same_bytes=False,
        groups=[GroupDifference(group="q_proj.lora_A", tensors=30, differing=30, largest=1e-6, relative=2e-7)],
        only_recorded=[],
        only_again=[],
    ),
    losses=LossesDifference(
        compared=80,
        missing=0,
        differing=1,
        first_step=3,
        largest=1e-4,
        steps=[StepDifference(step=3, recorded=1.5, again=1.5001)],
    ),
)


@pytest.fixture
def http(sqlite_registry: Registry, base: Base) -> Iterator[TestClient]:
    sqlite_registry.bases.enter(base)
    app = build_app(build_gateway(GatewaySettings(), sqlite_registry))
    with TestClient(app, base_url="http://localhost") as client:
        yield client


@pytest.mark.parametrize(
    ("body", "status", "code", "said"),
    [
        ({"model": "support"}, 404, "not_found", "NAME@N"),
        ({"model": "support@9"}, 404, "not_found", "there is no adapter 'support'"),
        ({"model": "support@" + "9" * 40}, 404, "not_found", "NAME@N"),
        ({"revision": "support@1"}, 400, "invalid_request", "model"),
        ({"model": 7}, 400, "invalid_request", "model"),
        ({"model": "brought@1"}, 409, "not_reproducible", "no training to repeat"),
    ],
)
def test_what_cannot_be_made_again_is_refused_with_the_reason(
    http: TestClient,
    sqlite_registry: Registry,
    make_adapter: Callable[..., Path],
    publish_queued: Callable[[], Revision | None],
    body: dict[str, object],
    status: int,
    code: str,
    said: str,
) -> None:
    queue_publication(sqlite_registry, Upload(folder=make_adapter(1)), adapter="brought", base="tiny", owner="ann")
    assert publish_queued() is not None
    answer = http.post("/admin/reproductions", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert said in answer.json()["error"]["message"]


def test_the_report_is_shown_with_the_job_that_made_it(
    http: TestClient, sqlite_registry: Registry, base: Base, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = ReproduceSpec(
        base=base.name,
        base_digest=base.digest,
        adapter="support",
        result="support@7",
        result_artifact="a" * 64,
        job_id="ftjob-1",
        work={},
    )
    job = sqlite_registry.jobs.create(spec, "ann")
    waiting = http.get(f"/admin/reproductions/{job.id}").json()
    assert (waiting["model"], waiting["status"], waiting["report"]) == ("support@7", "queued", None)
    lease = sqlite_registry.jobs.claim("w1", 30)
    assert lease is not None
    sqlite_registry.jobs.succeed(
        lease, JobNote(message=REPORTED.verdict, data={REPORT: REPORTED.model_dump(mode="json")})
    )
    shown = ReproductionObject.model_validate(http.get(f"/admin/reproductions/{job.id}").json())
    assert shown.report == REPORTED
    assert shown.verdict == (
        "support@7 was not reproduced: weights differ by up to 2e-07 of their size; "
        "what differs: torch 2.12.0 then, 2.13.0 now"
    )
    _show(shown)
    said = capsys.readouterr().out
    for fact in ("q_proj.lora_A", "30/30", "1 of 80 steps differ", "1.5001"):
        assert fact in said
    listed = http.get("/admin/jobs").json()["data"]
    assert [each["method"]["type"] for each in listed] == ["reproduce"]
    assert http.get("/v1/fine_tuning/jobs").json()["data"] == []
    other = http.get("/admin/reproductions/ftjob-1")
    assert json.dumps(other.json()).count("there is no job") == 1
