"""Models over HTTP: their files by digest, their archive, and who may have them."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from gateway.app import build_app, build_gateway
from gateway.settings import GatewaySettings
from registry.artifacts import folder_digest
from registry.database import Registry
from registry.keys import KeyDraft, Scope
from registry.types import Base
from tests.gateway.admin.weights.test_merges_face import is_known
from tests.waiting import wait_for


@pytest.fixture
def http(two_revisions: Registry) -> Iterator[TestClient]:
    app = build_app(build_gateway(GatewaySettings(route_refresh_s=0.02), two_revisions))
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        yield client


@pytest.mark.parametrize("name", ["support@2", "tiny"])
def test_an_archive_has_the_bytes_that_the_description_names(http: TestClient, name: str, tmp_path: Path) -> None:
    shown = http.get(f"/admin/exports/{name}").json()
    archive = http.get(f"/admin/archives/{name}")
    assert archive.headers["content-type"] == "application/x-tar"
    assert archive.headers["x-lorry-digest"] == shown["digest"]
    with tarfile.open(fileobj=io.BytesIO(archive.content)) as packed:
        packed.extractall(tmp_path / "out")
    assert folder_digest(tmp_path / "out") == shown["digest"]
    for file in shown["files"]:
        content = (tmp_path / "out" / file["path"]).read_bytes()
        assert (len(content), sha256(content).hexdigest()) == (file["size_bytes"], file["sha256"])
    assert http.get(f"/admin/archives/{name}").content == archive.content
    (entry, *_) = http.get("/admin/audit").json()["data"]
    assert (entry["action"], entry["subject"]) == ("model.download", name)


def test_the_lineage_names_no_person_and_no_place(http: TestClient, two_revisions: Registry, base: Base) -> None:
    made = {
        "source": "published by hand",
        "owner": "ann@example.com",
        "machine": {"cpu": "x"},
        "dataset": {"id": "file-1", "filename": "customers.jsonl", "sha256": "ab", "size_bytes": 7},
        "hyperparameters": {"lora": {"rank": 2}},
        "upload": "cd",
    }
    change(two_revisions, made)
    shown = http.get("/admin/exports/support@2")
    lineage = shown.json()["lineage"]
    assert [(each["name"], each["kind"]) for each in lineage] == [("support@2", "adapter"), ("tiny", "base")]
    assert lineage[0]["made_by"] == {
        "source": "published by hand",
        "hyperparameters": {"lora": {"rank": 2}},
        "dataset": {"sha256": "ab", "size_bytes": 7},
    }
    for secret in ("ann@example.com", "customers.jsonl", base.path):
        assert secret not in shown.text


def change(registry: Registry, provenance: Mapping[str, object]) -> None:
    import sqlalchemy as sa

    from registry import tables

    with registry.transactions.write() as tx:
        tx.execute(sa.update(tables.revisions).values(provenance=provenance))


def test_a_changed_folder_and_unknown_names_are_refused(http: TestClient, base: Base, two_revisions: Registry) -> None:
    for name in ("support", "support@9", "nothing", "a/b/c"):
        for path in ("exports", "archives"):
            assert http.get(f"/admin/{path}/{name}").status_code == 404
    (Path(base.path) / "config.json").write_text(json.dumps({"changed": True}))
    refused = http.get("/admin/exports/tiny")
    assert (refused.status_code, refused.json()["error"]["code"]) == (500, "artifact_corrupt")


def test_an_upload_is_recorded(http: TestClient) -> None:
    body = {"model": "support@2", "target": "hf:acme/support", "commit": "c" * 40, "revision": "main", "form": "folder"}
    assert http.post("/admin/exports", json=body).json()["model"] == "support@2"
    (entry,) = http.get("/admin/audit?limit=1").json()["data"]
    assert (entry["action"], entry["subject"], entry["detail"]["commit"]) == ("model.upload", "support@2", "c" * 40)
    assert http.post("/admin/exports", json=body | {"target": "ftp:x"}).status_code == 400


def test_only_the_tenant_of_an_adapter_takes_it_out(http: TestClient, two_revisions: Registry) -> None:
    two_revisions.keys.create(KeyDraft(name="root", scopes=frozenset(Scope)), "root")
    two_revisions.owners.change("support", tenant="red", is_shared=True, actor="root")
    wait_for(lambda: http.get("/v1/models").status_code == 401)
    keys = {}
    for tenant, scope in (("red", Scope.TRAINING), ("blue", Scope.TRAINING), ("asks", Scope.INFERENCE)):
        draft = KeyDraft(name=tenant, scopes=frozenset({scope}), tenant=tenant)
        keys[tenant] = {"authorization": f"Bearer {two_revisions.keys.create(draft, 'root').secret}"}
        wait_for(partial(is_known, http, keys[tenant]))
    for path in ("/admin/exports/support@2", "/admin/archives/support@2"):
        assert http.get(path, headers=keys["red"]).status_code == 200
        assert http.get(path, headers=keys["blue"]).status_code == 403
        assert http.get(path, headers=keys["asks"]).status_code == 403
