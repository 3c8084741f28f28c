"""OpenAI's Batch API by openai-python as it is installed; each answer is parsed strictly.

Run as a program: `python batch_walk.py BASE_URL`, before a Lorry whose base model is `tiny`.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import openai
from openai.types import Batch, FileObject
from pydantic import BaseModel

OURS = {"lorry"}
PATIENCE_S = 300.0
CHAT: Any = "/v1/chat/completions"
ENDS = ("completed", "failed", "expired", "cancelled")


def check_fields(value: Any, where: str) -> None:
    """Raise unless every field of *value*, at every depth, is one that the SDK's type has."""
    if isinstance(value, BaseModel):
        if unknown := set(value.model_extra or ()) - OURS:
            raise TypeError(f"{where} has fields that {type(value).__name__} lacks: {sorted(unknown)}")
        for name in type(value).model_fields:
            check_fields(getattr(value, name), f"{where}.{name}")
    elif isinstance(value, list):
        for at, entry in enumerate(value):
            check_fields(entry, f"{where}[{at}]")


def strict(raw: Any) -> Batch:
    """Return the answer as the SDK's type, without any conversion."""
    found = Batch.model_validate_json(raw.text, strict=True)
    check_fields(found, "Batch")
    return found


def request(custom_id: str, url: str = CHAT, **body: Any) -> bytes:
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": url, "body": {"model": "tiny"} | body}).encode()


def chat(custom_id: str, **more: Any) -> bytes:
    fields: dict[str, Any] = {"messages": [{"role": "user", "content": custom_id}], "max_tokens": 4}
    return request(custom_id, **(fields | more))


def submit(client: openai.OpenAI, lines: list[bytes], endpoint: Any = CHAT) -> Batch:
    """Upload the lines, in parts, and create a batch of them."""
    content = b"\n".join(lines)
    upload = client.uploads.create(
        bytes=len(content), filename="in.jsonl", mime_type="application/jsonl", purpose="batch"
    )
    half = len(content) // 2
    parts = [client.uploads.parts.create(upload.id, data=part) for part in (content[:half], content[half:])]
    file = client.uploads.complete(upload.id, part_ids=[part.id for part in parts]).file
    assert isinstance(file, FileObject)
    raw = client.batches.with_raw_response.create(
        input_file_id=file.id, endpoint=endpoint, completion_window="24h", metadata={"of": "walk"}
    )
    return strict(raw)


def ended(client: openai.OpenAI, batch: Batch) -> Batch:
    deadline = time.monotonic() + PATIENCE_S
    while (seen := strict(client.batches.with_raw_response.retrieve(batch.id))).status not in ENDS:
        assert time.monotonic() < deadline, seen
        time.sleep(0.1)
    return seen


def lines_of(client: openai.OpenAI, file_id: str | None) -> dict[str, Any]:
    assert file_id is not None
    read = [json.loads(line) for line in client.files.content(file_id).text.splitlines()]
    found = {line["custom_id"]: line for line in read}
    assert len(found) == len(read)
    return found


def walk(client: openai.OpenAI) -> None:
    """Have batches of several endpoints answered, refused and cancelled."""
    done = ended(client, submit(client, [*(chat(f"c{n}") for n in range(20)), chat("odd", temperature="hot")]))
    assert (done.status, done.model, done.metadata) == ("completed", "tiny", {"of": "walk"}), done
    answers = lines_of(client, done.output_file_id)
    assert set(answers) == {f"c{n}" for n in range(20)}
    assert answers["c0"]["response"]["body"]["choices"][0]["message"]["role"] == "assistant"
    refused = lines_of(client, done.error_file_id)["odd"]["response"]
    assert (refused["status_code"], refused["body"]["error"]["param"]) == (400, "temperature"), refused
    assert done.request_counts is not None
    assert (done.request_counts.completed, done.request_counts.failed) == (20, 1)
    used = sum(answer["response"]["body"]["usage"]["total_tokens"] for answer in answers.values())
    assert done.to_dict()["usage"]["total_tokens"] == used  # type: ignore[index]
    for endpoint, body in (
        ("/v1/completions", {"prompt": "one two", "max_tokens": 3}),
        ("/v1/responses", {"input": "hi", "max_output_tokens": 16, "store": False}),
        ("/v1/messages", {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}),
    ):
        other = ended(client, submit(client, [request("one", endpoint, **body)], endpoint))
        assert other.status == "completed", other
        answer = lines_of(client, other.output_file_id)["one"]["response"]
        assert answer["status_code"] == 200, answer
        assert other.to_dict()["usage"]["output_tokens"] > 0  # type: ignore[index]
    wrong = ended(client, submit(client, [chat("a"), chat("a"), b"{"]))
    assert wrong.status == "failed"
    assert wrong.errors is not None
    assert [(fault.line, fault.code) for fault in wrong.errors.data or ()] == [
        (2, "duplicate_custom_id"),
        (3, "invalid_json_line"),
    ]
    long = submit(client, [chat(f"l{n}", max_tokens=100, ignore_eos=True) for n in range(300)])
    cancelling = strict(client.batches.with_raw_response.cancel(long.id))
    assert cancelling.status == "cancelling"
    assert ended(client, long).status == "cancelled"
    assert [batch.id for batch in client.batches.list(limit=2)][:2] == [long.id, wrong.id]


if __name__ == "__main__":
    print(f"openai-python {openai.__version__}")
    walk(openai.OpenAI(base_url=sys.argv[1], api_key="none", max_retries=0))
