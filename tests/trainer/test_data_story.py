"""The facts about a training file go with the revision: its digest, the report's findings, and who signed for it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import httpx2 as httpx
import pytest
from openai import OpenAI

from gateway.settings import GatewaySettings
from registry.database import Registry
from registry.jobs.job_state import JobState
from tests.gateway.cli.lorry_command import lorry
from tests.gateway.served import ServedGateway
from tests.trainer.forks.forked_children import ForkedChildren
from trainer.settings import TrainerSettings

LONG = "And so on, and so on. " * 20


def lines() -> bytes:
    answers = [f"Pot {at} has {at + 2} cups." for at in range(18)] + ["Pot 1 has 3 cups.", LONG]
    chats = [[{"role": "user", "content": "Which?"}, {"role": "assistant", "content": answer}] for answer in answers]
    return "".join(json.dumps({"messages": chat}) + "\n" for chat in chats).encode()


@pytest.mark.trains
@pytest.mark.corpus
def test_a_revision_tells_what_its_data_was_and_who_signed_for_it(
    registry: Registry,
    settings: TrainerSettings,
    forks: ForkedChildren,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with ServedGateway(GatewaySettings(route_refresh_s=0.02), registry) as served:
        url = f"http://127.0.0.1:{served.port}"
        client = OpenAI(base_url=f"{url}/v1", api_key="none")
        file = client.files.create(file=("pots.jsonl", lines()), purpose="fine-tune")
        client.files.wait_for_processing(file.id, poll_interval=0.1, max_wait_seconds=120)

        assert "1 of 20 rows to read" in lorry(url, "data", "review", file.id)
        sheet = tmp_path / "pots.jsonl.review.csv"
        [row] = csv.DictReader(sheet.read_text(encoding="utf-8-sig").splitlines(keepends=True))
        sheet.write_text(f"line,verdict,note\n{row['line']},bad,too short\n")
        assert "1 of them bad" in lorry(url, "data", "review", file.id[:15], "--sign")
        assert json.loads(lorry(url, "data", "check", file.id, "--json"))["file"]["name"] == "pots.jsonl"

        own = {"max_length": 128, "n_epochs": 1, "batch_size": 4, "lora_rank": 4, "most_unfit_rows": 0.05}
        job = client.fine_tuning.jobs.create(
            model="tiny",
            training_file=file.id,
            suffix="pots",
            extra_body={"method": {"type": "supervised", "supervised": {"hyperparameters": own}}},
        )
        forks.work(registry, settings)
        ended = registry.jobs.get(job.id)
        assert (ended.state, ended.error) == (JobState.SUCCEEDED, None)

        [revision] = httpx.get(f"{url}/admin/adapters/pots").json()["revisions"]
        made = revision["provenance"]["dataset"]
        assert (made["id"], made["sha256"]) == (file.id, registry.files.get(file.id).digest)
        assert any("1 row is equal to an earlier one" in finding for finding in made["findings"])
        assert (made["review"]["rows"], made["review"]["bad"]) == (1, 1)
        assert (made["unfit_rows"]["dropped"], made["unfit_rows"]["reasons"][0]["lines"]) == (1, [20])
        shown = " ".join(lorry(url, "adapters", "show", "pots@1").split())
        for part in ("pots.jsonl", f"sha256 {made['sha256']}", "review.bad 1", "unfit_rows.dropped 1"):
            assert part in shown
        told = client.fine_tuning.jobs.retrieve(job.id).to_dict()["lorry"]
        assert told["unfit_rows"]["training_file"]["dropped"] == 1  # type: ignore[index]
        assert "of 20 rows 1 left out" in " ".join(lorry(url, "jobs", "show", job.id).split())

        client.files.delete(file.id)
        assert registry.reports.report(made["sha256"]) is None
        assert registry.adapters.revision("pots", 1).provenance["dataset"] == made
