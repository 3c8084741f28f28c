"""A caller asks about the queue and reads the replies through the real OpenAI client; no training runs here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from starlette.testclient import TestClient

from corpus.examination import Wishes, examine
from gateway.app import build_app, build_gateway
from gateway.settings import GatewaySettings
from registry.database import Registry
from registry.jobs.job_moves import JobNote
from registry.jobs.scheduling.room import QueueEntry, TrainerWorker
from registry.types import Base
from tests.gateway.openai.test_openai_face import SMALL, upload

NOTE = JobNote(message="done")


@pytest.fixture
def client(sqlite_registry: Registry, base: Base) -> Iterator[openai.OpenAI]:
    """The SDK's client of a gateway over a registry with one base model."""
    sqlite_registry.bases.enter(base)
    app = build_app(build_gateway(GatewaySettings(), sqlite_registry))
    with TestClient(app, base_url="http://localhost") as http:
        yield openai.OpenAI(base_url="http://localhost/v1", api_key="none", http_client=http, max_retries=0)


def create(client: openai.OpenAI, **asked: Any) -> Any:
    body = {"hyperparameters": SMALL, **asked}
    return client.fine_tuning.jobs.create(model="tiny", training_file=upload(client), suffix="support", extra_body=body)


def facts(client: openai.OpenAI, job_id: str) -> dict[str, Any]:
    return client.fine_tuning.jobs.retrieve(job_id).to_dict()["lorry"]  # type: ignore[return-value]


def test_a_job_waits_for_another_and_the_answer_says_so(client: openai.OpenAI, sqlite_registry: Registry) -> None:
    first = create(client)
    second = create(client, after=[first.id, first.id], priority="normal")
    shown = facts(client, second.id)
    assert shown["after"] == [first.id]
    assert shown["queue"] == {
        "place": 2,
        "of": 2,
        "waits_for": [first.id],
        "reason": f"waits until {first.id} succeeded",
    }
    assert facts(client, first.id)["queue"]["reason"] == "no worker of the trainer is known"
    lease = sqlite_registry.jobs.claim("w1", 30.0)
    assert lease is not None
    sqlite_registry.jobs.succeed(lease, NOTE)
    shown = facts(client, second.id)
    assert (shown["after"], shown["queue"]["waits_for"], shown["queue"]["place"]) == ([first.id], [], 1)


def test_a_job_fails_with_the_one_that_it_waits_for(client: openai.OpenAI) -> None:
    first = create(client)
    second = create(client, after=[first.id])
    client.fine_tuning.jobs.cancel(first.id)
    job = client.fine_tuning.jobs.retrieve(second.id)
    assert job.status == "failed"
    assert job.error is not None
    assert (job.error.code, job.error.param) == ("dependency_failed", "after")
    with pytest.raises(openai.BadRequestError, match=f"after: job {first.id} has been cancelled") as refused:
        create(client, after=[first.id])
    assert refused.value.param == "after"


@pytest.mark.parametrize(
    ("after", "param"),
    [(["ftjob-none"], "after"), ("ftjob-none", "after"), ([7], "after.0"), (["x"] * 101, "after")],
)
def test_an_after_that_cannot_be_is_refused(client: openai.OpenAI, after: object, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        create(client, after=after)
    assert (refused.value.param or "").startswith(param)


def test_times_are_expected_by_the_jobs_before(client: openai.OpenAI, sqlite_registry: Registry) -> None:
    sqlite_registry.workers.report(TrainerWorker(name="w1", device="cpu", total_bytes=None))
    spec = sqlite_registry.jobs.get(create(client).id).spec
    last = sqlite_registry.jobs.create(spec, "ann", entry=QueueEntry(expected_s=50.0))
    first = sqlite_registry.jobs.claim("w1", 30.0)
    assert first is not None
    assert facts(client, first.job_id)["expected_finish"] is None, "nobody knows how long it takes"
    assert facts(client, last.id)["expected_start"] is None
    sqlite_registry.jobs.note_progress(first, trained_tokens=1, estimated_finish=1300.0)
    assert facts(client, first.job_id)["expected_finish"] == 1300
    shown = facts(client, last.id)
    assert (shown["queue"]["place"], shown["queue"]["reason"]) == (1, None)
    assert (shown["expected_start"], shown["expected_finish"]) == (1300, 1350)
    assert client.fine_tuning.jobs.retrieve(last.id).estimated_finish is None, "OpenAI's field is for running jobs"
    [newest, _] = client.fine_tuning.jobs.list()
    assert newest.to_dict()["lorry"] == shown


def test_a_job_is_refused_at_submit_where_the_report_shows_too_many_rows_that_do_not_fit(
    client: openai.OpenAI, sqlite_registry: Registry, tmp_path: Path
) -> None:
    rows = [f"Number {at} of the pots" + (" and so on" * 700 if at < 2 else "") for at in range(20)]
    chats = [{"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": row}]} for row in rows]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(chat) + "\n" for chat in chats))
    file = client.files.create(file=tmp_path / "rows.jsonl", purpose="fine-tune")

    def ask(**own: Any) -> Any:
        method = {"type": "supervised", "supervised": {"hyperparameters": SMALL | own}}
        return client.fine_tuning.jobs.create(model="tiny", training_file=file.id, method=method)  # type: ignore[arg-type]

    assert ask().status == "queued", "without a report the training process counts"
    report = examine(tmp_path / "rows.jsonl", Wishes(model_name="tiny"))
    sqlite_registry.reports.finish(sqlite_registry.files.get(file.id), report.model_dump(mode="json"), "")
    refused: tuple[dict[str, Any], ...] = ({}, {"max_length": 600}, {"unfit_rows": "cut"}, {"most_unfit_rows": 0.09})
    for own in refused:
        with pytest.raises(openai.BadRequestError) as caught:
            ask(**own)
        assert caught.value.param == "training_file"
        assert "2 longer than max_length (lines 1, 2, the longest has" in caught.value.message
        assert "most_unfit_rows 0.1 in place of" in caught.value.message
    fits: tuple[dict[str, Any], ...] = (
        {"max_length": 4000},
        {"most_unfit_rows": 0.1},
        {"most_unfit_rows": 1, "unfit_rows": "cut"},
    )
    for own in fits:
        assert ask(**own).status == "queued"
