"""The content of a file is sent whole, or in the ranges that were asked for, even if the file is deleted meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from starlette.types import Message

from gateway.http.methods import Methods, MethodTable
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


def test_head_has_the_length_and_reads_no_bytes(tmp_path: Path) -> None:
    path, sent = tmp_path / "content", list[Message]()
    path.write_bytes(b"x" * 300_000)
    scope = {"type": "http", "method": "HEAD", "path": "/", "headers": [], "state": {}}

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(Methods(OpenedFile(path.open("rb"), "a.jsonl"), MethodTable(()))(scope, receive, send))
    assert (b"content-length", b"300000") in sent[0]["headers"]
    assert sent[1:] == [{"type": "http.response.body", "body": b"", "more_body": False}]
