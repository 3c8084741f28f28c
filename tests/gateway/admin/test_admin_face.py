"""The admin endpoints publish, roll out, roll back, retire and audit."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from gateway.app import build_app, build_gateway
from gateway.settings import GatewaySettings
from registry.database import Registry
from registry.publishing.unused_folders import discard_uploads
from registry.states import SlotState
from registry.types import Base, Revision, Slot
from tests.gateway.replica_rows import replica_row


@pytest.fixture
def http(sqlite_registry: Registry, base: Base) -> Iterator[TestClient]:
    sqlite_registry.bases.enter(base)
    with TestClient(
        build_app(build_gateway(GatewaySettings(), sqlite_registry)), base_url="http://localhost"
    ) as client:
        yield client


def tar_of(folder: Path) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path in folder.iterdir():
            tar.add(path, arcname=path.name)
    return archive.getvalue()


@pytest.fixture
def promoted(
    http: TestClient,
    sqlite_registry: Registry,
    make_adapter: Callable[..., Path],
    publish_queued: Callable[[], Revision | None],
) -> TestClient:
    """`support@1` was stable, `support@2` is; both are loaded on the only replica."""
    for seed in (1, 2):
        assert http.post("/admin/adapters/support/revisions", content=tar_of(make_adapter(seed))).status_code == 202
        assert publish_queued() is not None
    sqlite_registry.adapters.set_first_stable("support", 1, "first_revision")
    slots = tuple(Slot(served_name=f"support@{number}", state=SlotState.READY) for number in (1, 2))
    replica = replica_row("r1", slots=slots)
    sqlite_registry.replicas.report(replica)
    began = http.post("/admin/adapters/support/rollouts", json={"revision": 2, "steps": [25, 100]}).json()
    assert (began["state"], began["canary_weight"]) == ("progressing", 25)
    assert http.post(f"/admin/rollouts/{began['id']}/promote").json()["state"] == "promoted"
    return http


def stable(http: TestClient) -> int:
    number: int = http.get("/admin/adapters/support").json()["stable"]
    return number


def test_a_rollback_is_done_when_it_is_answered(promoted: TestClient) -> None:
    assert stable(promoted) == 2
    assert promoted.post("/admin/adapters/support/rollback").json()["state"] == "promoted"
    assert stable(promoted) == 1


def test_a_rollback_during_a_rollout_aborts_it(promoted: TestClient) -> None:
    promoted.post("/admin/adapters/support/rollouts", json={"revision": 1, "steps": [50, 100]})
    told = promoted.post("/admin/adapters/support/rollback").json()
    assert (told["state"], told["reason"]) == ("aborted", "rolled_back")
    assert stable(promoted) == 2


def refusal(http: TestClient, path: str, body: object = None) -> tuple[str, str]:
    answer = http.post(path, json=body, headers={"x-lorry-actor": "bob"})
    assert answer.status_code == 409, answer.text
    error = answer.json()["error"]
    return error["code"], error["message"]


def test_a_rollback_is_done_once_however_often_it_is_asked_for(promoted: TestClient) -> None:
    promoted.post("/admin/adapters/support/rollback", headers={"x-lorry-actor": "ann"})
    for _ in range(2):
        code, message = refusal(promoted, "/admin/adapters/support/rollback")
        assert code == "nothing_to_roll_back"
        assert message.startswith("support@2 was taken back already, at ")
        assert "by ann; support@1 serves since." in message
        assert stable(promoted) == 1


def test_only_a_number_leads_to_what_was_taken_back(promoted: TestClient) -> None:
    promoted.post("/admin/adapters/support/rollback")
    assert promoted.post("/admin/adapters/support/rollback", json={"to": 2}).json()["state"] == "promoted"
    assert stable(promoted) == 2
    assert promoted.post("/admin/adapters/support/rollback").json()["state"] == "promoted", "and it is back in use"
    assert stable(promoted) == 1


def test_a_canary_that_was_taken_back_does_not_have_stable_taken_back_too(promoted: TestClient) -> None:
    began = promoted.post("/admin/adapters/support/rollouts", json={"revision": 1, "steps": [50, 100]}).json()
    promoted.post("/admin/adapters/support/rollback", headers={"x-lorry-actor": "ann"})
    code, message = refusal(promoted, "/admin/adapters/support/rollback")
    assert (code, "support@1 was taken back already" in message) == ("nothing_to_roll_back", True)
    assert stable(promoted) == 2
    for move in ("abort", "promote", "pause"):
        code, message = refusal(promoted, f"/admin/rollouts/{began['id']}/{move}")
        assert (code, "was aborted already, at" in message, "by ann" in message) == ("illegal_move", True, True)


def test_of_two_who_promote_from_the_same_step_one_moves_the_rollout(promoted: TestClient) -> None:
    plan = {"revision": 1, "steps": [10, 20, 100]}
    path = f"/admin/rollouts/{promoted.post('/admin/adapters/support/rollouts', json=plan).json()['id']}/promote"
    assert promoted.post(path, json={"step": 0}).json()["canary_weight"] == 20
    assert refusal(promoted, path, {"step": 0})[0] == "stale_state"
    assert promoted.post(path, json={"step": 1}).json()["state"] == "promoted"


def test_a_second_rollout_is_refused_and_the_first_goes_on(promoted: TestClient) -> None:
    first = promoted.post("/admin/adapters/support/rollouts", json={"revision": 1, "steps": [50, 100]}).json()
    second = promoted.post("/admin/adapters/support/rollouts", json={"revision": 1, "steps": [100]})
    assert (second.status_code, second.json()["error"]["code"]) == (409, "rollout_open")
    assert promoted.get(f"/admin/rollouts/{first['id']}").json()["state"] == "progressing"


@pytest.mark.parametrize("steps", [[], [25], [50, 25, 100], [0, 100], ["a"]])
def test_steps_that_make_no_sense_are_refused(promoted: TestClient, steps: list[int]) -> None:
    told = promoted.post("/admin/adapters/support/rollouts", json={"revision": 1, "steps": steps})
    assert told.status_code == 400
    assert "steps" in told.json()["error"]["message"]


def test_a_judge_that_nothing_here_is_named_like_is_refused_at_the_start(promoted: TestClient) -> None:
    plan = {"revision": 1, "steps": ["shadow:10", 100], "shadow_judge": "tinny"}
    refused = promoted.post("/admin/adapters/support/rollouts", json=plan)
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert (error["param"], "Did you mean 'tiny'?" in error["message"]) == ("shadow_judge", True)
    plan["shadow_judge"] = "tiny"
    assert promoted.post("/admin/adapters/support/rollouts", json=plan).status_code == 201


def test_pause_holds_resume_goes_on_abort_gives_back(promoted: TestClient) -> None:
    rollout = promoted.post("/admin/adapters/support/rollouts", json={"revision": 1, "steps": [50, 100]}).json()
    path = f"/admin/rollouts/{rollout['id']}"
    assert [promoted.post(f"{path}/{move}").json()["state"] for move in ("pause", "resume", "abort")] == [
        "paused",
        "progressing",
        "aborted",
    ]
    assert promoted.post(f"{path}/resume").status_code == 409
    assert [event["state"] for event in promoted.get(path).json()["events"]][-1] == "aborted"


def test_stable_cannot_be_retired_and_another_can(promoted: TestClient) -> None:
    assert promoted.delete("/admin/adapters/support/revisions/2").status_code == 409
    assert promoted.delete("/admin/adapters/support/revisions/1").json()["state"] == "retired"


def test_a_folder_is_checked_at_once_and_published_by_a_job(
    http: TestClient,
    sqlite_registry: Registry,
    make_adapter: Callable[..., Path],
    publish_queued: Callable[[], Revision | None],
) -> None:
    told = http.post(
        "/admin/adapters/support/revisions",
        content=tar_of(make_adapter(rank=3, use_rslora=True)),
        headers={"x-lorry-actor": "ann"},
    )
    job = told.json()
    assert (told.status_code, job["status"], job["method"]) == (202, "queued", {"type": "publish"})
    assert (job["model"], job["lorry"]["adapter"], job["lorry"]["owner"]) == ("tiny", "support", "ann")
    assert http.get("/admin/adapters").json()["data"] == []
    uploaded = sqlite_registry.artifacts.folder(job["spec"]["artifact"])
    sqlite_registry.recover()
    assert uploaded.is_dir(), "a job that waits keeps its upload"

    assert [other["id"] for other in http.get("/admin/jobs").json()["data"]] == [job["id"]]
    assert http.get("/v1/fine_tuning/jobs").json()["data"] == []
    for method, path in (("GET", ""), ("POST", "/cancel"), ("POST", "/pause"), ("GET", "/events")):
        assert http.request(method, f"/v1/fine_tuning/jobs/{job['id']}{path}").status_code == 404

    assert publish_queued() is not None
    ended = http.get(f"/admin/jobs/{job['id']}").json()
    assert (ended["status"], ended["lorry"]["revision"]) == ("succeeded", "support@1")
    said = [event["message"] for event in http.get(f"/admin/jobs/{job['id']}/events").json()["data"]]
    assert "Published as support@1" in said
    (revision,) = http.get("/admin/adapters/support").json()["revisions"]
    assert (revision["rank"], revision["job_id"]) == (8, job["id"])
    assert not uploaded.exists(), "an ended job leaves no upload"


def test_a_publication_that_waits_can_be_paused_resumed_and_cancelled(
    http: TestClient, sqlite_registry: Registry, make_adapter: Callable[..., Path]
) -> None:
    job = http.post("/admin/adapters/support/revisions", content=tar_of(make_adapter())).json()
    path = f"/admin/jobs/{job['id']}"
    states = [http.post(f"{path}/{act}").json()["status"] for act in ("pause", "resume", "cancel")]
    assert states == ["paused", "queued", "cancelled"]
    assert discard_uploads(sqlite_registry) == [job["spec"]["artifact"]]
    assert discard_uploads(sqlite_registry) == []


def test_an_upload_that_no_replica_could_serve_is_refused(
    promoted: TestClient, sqlite_registry: Registry, make_adapter: Callable[..., Path]
) -> None:
    (replica,) = sqlite_registry.replicas.list()
    sqlite_registry.replicas.report(replace(replica, max_rank=8))
    told = promoted.post("/admin/adapters/support/revisions", content=tar_of(make_adapter(rank=9)))
    assert (told.status_code, told.json()["error"]["code"]) == (422, "adapter_rejected")
    assert "rank 16 is above what any replica of tiny takes: r1 up to 8" in told.json()["error"]["message"]
    sqlite_registry.replicas.report(replace(replica, capacity=0))
    told = promoted.post("/admin/adapters/support/revisions", content=tar_of(make_adapter(rank=8)))
    assert (told.status_code, told.json()["error"]["code"]) == (422, "adapter_rejected")
    assert "tiny is served without adapters" in told.json()["error"]["message"]
    (Path(sqlite_registry.bases.get("tiny").path) / "config.json").write_text('{"model_type": "bert"}')
    told = promoted.post("/admin/adapters/support/revisions", content=tar_of(make_adapter(rank=8)))
    assert (told.status_code, told.json()["error"]["code"]) == (422, "adapter_rejected")
    assert "tiny is a model to embed texts; it generates none" in told.json()["error"]["message"]


def test_an_encoder_beside_it_and_a_model_made_from_it_leave_one_base_for_an_adapter_without_a_base(
    http: TestClient, sqlite_registry: Registry, base: Base, make_adapter: Callable[..., Path], tmp_path: Path
) -> None:
    encoder = tmp_path / "encoder"
    encoder.mkdir()
    (encoder / "config.json").write_text('{"model_type": "bert"}')
    sqlite_registry.bases.enter(replace(base, name="encoder", path=str(encoder), digest="e" * 64))
    sqlite_registry.bases.enter(replace(base, name="support-1", digest="f" * 64, parent=base.name))
    job = http.post("/admin/adapters/support/revisions", content=tar_of(make_adapter())).json()
    assert job["spec"]["base"] == base.name
    sqlite_registry.bases.enter(replace(base, name="another", digest="a" * 64))
    told = http.post("/admin/adapters/shop/revisions", content=tar_of(make_adapter(1))).json()["error"]
    assert (told["param"], told["message"]) == ("base", "base must be one of another, support-1, tiny")


def test_the_numbers_of_a_proof_are_shown_with_the_slot(promoted: TestClient) -> None:
    shown = promoted.get("/admin/adapters/support").json()["revisions"][0]
    assert shown["slots"] == {"r1": {"state": "ready", "reason": "", "message": "", "proof": None}}


def test_what_is_no_adapter_is_refused_saying_which_part(http: TestClient, make_adapter: Callable[..., Path]) -> None:
    foreign = make_adapter(targets=("q_proj",), rank=2)
    (foreign / "adapter_model.safetensors").rename(foreign / "adapter_model.bin")
    told = http.post("/admin/adapters/support/revisions", content=tar_of(foreign))
    assert (told.status_code, told.json()["error"]["code"]) == (422, "adapter_rejected")
    assert "adapter_model.bin" in told.json()["error"]["message"]
    assert http.post("/admin/adapters/support/revisions", content=b"no tar").status_code == 400
    assert http.get("/admin/adapters").json()["data"] == []


def test_a_tar_that_climbs_out_of_its_folder_is_refused(http: TestClient, tmp_path: Path) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("../escaped"), io.BytesIO())
    assert http.post("/admin/adapters/support/revisions", content=archive.getvalue()).status_code == 400


def test_every_act_is_on_record_with_who_did_it(promoted: TestClient) -> None:
    promoted.post("/admin/adapters/support/rollback", headers={"x-lorry-actor": "ann"})
    entries = promoted.get("/admin/audit").json()["data"]
    assert "ann" in {entry["actor"] for entry in entries}
    assert "revision.publish" in {entry["action"] for entry in entries}
