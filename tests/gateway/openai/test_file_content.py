"""The content of a file is sent whole, or in the ranges that were asked for, even if the file is deleted meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from gateway.openai.files import OpenedFile


@pytest.mark.parametrize(
    ("asked", "status", "sent"),
    [("", 200, b"0123456789"), ("bytes=2-4", 206, b"234"), ("bytes=-2", 206, b"89")],
)
def test_a_deletion_before_the_bytes_are_sent_leaves_the_answer_whole(
    tmp_path: Path, asked: str, status: int, sent: bytes
) -> None:
    path = tmp_path / "content"
    path.write_bytes(b"0123456789")
    opened = path.open("rb")
    answer = OpenedFile(opened, "a.jsonl")
    path.unlink()
    told = TestClient(answer).get("/", headers={"range": asked} if asked else {})
    assert (told.status_code, told.content, int(told.headers["content-length"])) == (status, sent, len(sent))
    assert 'filename="a.jsonl"' in told.headers["content-disposition"]
    assert opened.closed
