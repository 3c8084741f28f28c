"""Bodies outside the hot path: their size, their time, and the JSON that no endpoint can take."""

from __future__ import annotations

import asyncio
import errno
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request

from gateway.http.error_answers import answer_http, answer_os_error
from gateway.settings import GatewaySettings
from registry.database import Registry, open_registry
from registry.keys import KeyDraft, Scope
from registry.settings import RegistrySettings
from tests.gateway.served import ServedGateway

SETTINGS = GatewaySettings(max_upload_bytes=4096, max_body_bytes=2048, receive_timeout_s=0.3)
UPLOADS = ("/v1/files", "/admin/adapters/support/revisions")
PATHS = ("/v1/feedback", "/v1/fine_tuning/jobs", *UPLOADS)


@pytest.fixture(scope="module")
def gateway(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedGateway]:
    """A gateway for all tests, as none of them changes anything."""
    folder = tmp_path_factory.mktemp("gateway")
    shutil.copy(sqlite_template, folder / "registry.db")
    registry = open_registry(
        RegistrySettings(url=f"sqlite:///{folder / 'registry.db'}", artifacts=folder / "artifacts")
    )
    with ServedGateway(SETTINGS, registry) as served:
        yield served
    registry.close()


def answer_to(gateway: ServedGateway, head: str, body: bytes = b"") -> tuple[int, dict[str, Any]]:
    """Send a head and as much of its body as there is; return the status and the error."""
    with gateway.connect() as connection:
        connection.sendall(f"{head}\r\nhost: 127.0.0.1\r\n\r\n".encode() + body)
        told = b""
        while b"\r\n\r\n" not in told or not told.endswith(b"}"):
            told += connection.recv(65536)
        return int(told[9:12]), json.loads(told.partition(b"\r\n\r\n")[2])["error"]


@pytest.mark.parametrize("path", PATHS)
def test_a_length_beyond_the_limit_is_refused_before_the_body_is_sent(gateway: ServedGateway, path: str) -> None:
    status, error = answer_to(gateway, f"POST {path} HTTP/1.1\r\ncontent-length: 999999999999")
    assert (status, error["code"]) == (413, "body_too_large")


@pytest.mark.parametrize("path", PATHS)
def test_a_body_without_a_length_is_read_up_to_the_limit_only(gateway: ServedGateway, path: str) -> None:
    kind = "multipart/form-data; boundary=x" if path == "/v1/files" else "application/json"
    head = f"POST {path} HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-type: {kind}"
    form = b'--x\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n' + b"a" * 70_000
    status, error = answer_to(gateway, head, b"%x\r\n%b\r\n" % (len(form), form))  # and no end
    assert (status, error["code"]) == (413, "body_too_large")


@pytest.mark.parametrize("path", PATHS)
def test_a_body_that_does_not_arrive_is_not_waited_for(gateway: ServedGateway, path: str) -> None:
    kind = "multipart/form-data; boundary=x" if path == "/v1/files" else "application/json"
    status, error = answer_to(gateway, f"POST {path} HTTP/1.1\r\ncontent-length: 100\r\ncontent-type: {kind}")
    assert (status, error["code"]) == (408, "request_too_slow")


def test_a_caller_without_a_key_is_refused_before_its_body_is_judged(sqlite_registry: Registry) -> None:
    sqlite_registry.keys.create(KeyDraft(name="ann", scopes=frozenset({Scope.ADMIN})), "ann")
    with ServedGateway(SETTINGS, sqlite_registry) as gateway:
        status, error = answer_to(gateway, "POST /v1/files HTTP/1.1\r\ncontent-length: 99999999")
    assert (status, error["code"]) == (401, "invalid_api_key")


@pytest.mark.parametrize(
    ("body", "param", "part"),
    [
        (b'{"completion_id": "\\ud800"}', None, "not JSON"),
        (b'{"\\udc00": 1}', None, "not JSON"),
        (b'{"completion_id": "\xff"}', None, "not JSON in UTF-8"),
        (b'{"score": 1e999}', "score", "out of range"),
        (b'{"score": 9223372036854775808}', "score", "out of range"),
        (b'{"score": {"a": [-9223372036854775809]}}', "score", "out of range"),
        (b'{"score": 1' + b"0" * 1500 + b"}", "score", "out of range"),
        (b'{"comment": ' + b"[" * 300 + b"]" * 300 + b"}", "comment", "nested too deeply"),
        (b'{"comment": "a\\u0000b"}', "comment", "NUL"),
        (b'{"comment": {"\\u0000": 1}}', "comment", "NUL"),
        (b'{"comment": NaN}', None, "not JSON"),
        (b"[" * 1000, None, "object"),
        (b"[1]", None, "must be a JSON object"),
        (b"17", None, "must be a JSON object"),
        (b'{"completion_id": 5}', "completion_id", "must be a string"),
        (b'{"completion_id": "a", "score": []}', "score", "must be a number"),
        (b'{"completion_id": "a", "label": {}}', "label", "good"),
        (b"{}", "completion_id", "is missing"),
    ],
)
def test_json_that_no_endpoint_takes_is_refused_by_the_name_of_its_part(
    gateway: ServedGateway, body: bytes, param: str | None, part: str
) -> None:
    answer = gateway.client.post("/v1/feedback", content=body, headers={"content-type": "application/json"})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, param)
    assert part in error["message"]


def test_a_place_is_named_without_the_types_that_were_tried(gateway: ServedGateway) -> None:
    answer = gateway.client.post("/admin/adapters/support/rollouts", json={"revision": 1, "steps": [5, [1]]})
    error = answer.json()["error"]
    assert error["param"] == "steps.1"
    assert error["message"] == "steps.1: must be a whole number or a string"


def test_json_may_begin_with_a_byte_order_mark(gateway: ServedGateway) -> None:
    answer = gateway.client.post(
        "/admin/adapters/no/rollback", content=b"\xef\xbb\xbf{}", headers={"content-type": "application/json"}
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize("target", ["/v1/files/%00", "/v1/files?after=%00", "/admin/jobs/a%00b"])
def test_a_nul_in_an_address_is_refused(gateway: ServedGateway, target: str) -> None:
    answer = gateway.client.get(target)
    assert answer.status_code == 400
    assert "NUL" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "target", ["/admin/audit?after=9223372036854775808", "/admin/audit?after=1e999", "/admin/audit?limit=" + "9" * 5000]
)
def test_a_number_in_a_query_has_bounds(gateway: ServedGateway, target: str) -> None:
    answer = gateway.client.get(target)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] in ("after", "limit")


def test_an_error_repeats_the_beginning_of_a_long_name_only(gateway: ServedGateway) -> None:
    answer = gateway.client.get("/v1/fine_tuning/jobs?after=" + "x" * 30_000)
    assert answer.status_code == 404
    assert len(answer.content) < 2500


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_507_also_where_the_parser_of_forms_met_it(number: int) -> None:
    request = Request({"type": "http", "method": "POST", "path": "/v1/files", "headers": [], "query_string": b""})
    full = OSError(number, "no room")
    hidden = HTTPException(400, "There was an error parsing the body")
    hidden.__cause__ = full
    assert asyncio.run(answer_os_error(request, full)).status_code == 507
    assert asyncio.run(answer_http(request, hidden)).status_code == 507
