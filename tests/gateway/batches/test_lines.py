"""Reading and checking the input file of a batch, and the lines of its result files."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.batches.lines import MOST_FAULTS, MOST_LINES, BatchFile, BatchLine, FileRefused
from gateway.batches.parallelism import BatchShares, PoolLoad, lines_allowed
from gateway.batches.records import LineAnswer, result_of, unasked_records, usage_in
from gateway.batches.retrying import MOST_FAILURES, again, leaves_s
from gateway.routing.paths import HOT_PATHS
from registry.batches.batch import BatchFault, BatchUsage
from registry.batches.batch_state import BatchState

CHAT = "/v1/chat/completions"
FILE = BatchFile(CHAT, most_body_bytes=1000)
LINE = BatchLine(number=3, custom_id="a", model="tiny", body=b"{}")


def line(custom_id: Any = "a", **changes: Any) -> bytes:
    """A right line, but for its changes; a field that is None is left out."""
    body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
    fields = {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": body} | changes
    return json.dumps({name: value for name, value in fields.items() if value is not None}).encode()


def faults(*lines: bytes) -> list[BatchFault]:
    with pytest.raises(FileRefused) as refused:
        FILE.check(io.BytesIO(b"\n".join(lines)))
    return refused.value.faults


def answer(status: int = 200, body: bytes = b"{}", retry_after_s: float | None = None) -> LineAnswer:
    return LineAnswer(status=status, request_id="req-1", retry_after_s=retry_after_s, body=body)


def test_a_right_file_is_counted_and_read_byte_for_byte() -> None:
    odd = b'{"body": {"model":"tiny", "seed": 12345678901234567890123, "x": 1.10}, "custom_id": "b", '
    odd += b'"url": "/v1/chat/completions", "method": "POST"}'
    content = b"\xef\xbb\xbf" + line("a") + b"\r\n\n  \n" + odd
    checked = FILE.check(io.BytesIO(content))
    assert (checked.lines, checked.model) == (2, "tiny")
    read = list(FILE.lines(io.BytesIO(content)))
    assert [(each.number, each.custom_id) for each in read] == [(1, "a"), (4, "b")]
    assert read[1].body == b'{"model":"tiny", "seed": 12345678901234567890123, "x": 1.10}'


@pytest.mark.parametrize(
    ("wrong", "code", "param", "words"),
    [
        (b"{", "invalid_json_line", None, "is not JSON"),
        (b"[1]", "invalid_json_line", None, "must be a JSON object, not a list"),
        (b"\xff\xfe", "invalid_json_line", None, "is not JSON"),
        (b'{"a": "\xff"}', "unknown_parameter", "a", "unknown field 'a'"),
        (line(), "duplicate_custom_id", "custom_id", "that of line 1 already"),
        (line("b", custom=1), "unknown_parameter", "custom", "did you mean 'custom_id'"),
        (line(None), "missing_required_parameter", "custom_id", "custom_id is missing"),
        (line(7), "invalid_type", "custom_id", "must be a string, not a number"),
        (line(""), "invalid_custom_id", "custom_id", "1 to 512 characters"),
        (line("b", method="GET"), "invalid_method", "method", 'must be "POST"'),
        (line("b", url="/v1/embeddings"), "invalid_url", "url", "the endpoint of the batch, /v1/chat/completions"),
        (line("b", body="{}"), "invalid_type", "body", "must be an object, not a string"),
        (line("b", body={}), "missing_required_parameter", "body.model", "body.model is missing"),
        (line("b", body={"model": 3}), "invalid_type", "body.model", "must be a string, not a number"),
        (line("b", body={"model": "tiny", "stream": True}), "stream_not_supported", "body.stream", "must be false"),
        (line("b", body={"model": "big"}), "mismatched_model", "body.model", "line 1 names 'tiny', this one 'big'"),
        (line("b", body={"model": "tiny", "x": "y" * 1000}), "request_too_large", "body", "1,000"),
        (line("b", body={"model": "tiny", "x": "y" * 90000}), "request_too_large", "body", "1,000"),
    ],
)
def test_a_fault_names_line_and_field(wrong: bytes, code: str, param: str | None, words: str) -> None:
    (fault,) = faults(line(), wrong)
    assert (fault.code, fault.line, fault.param) == (code, 2, param)
    assert fault.message.startswith("line 2: ")
    assert words in fault.message


def test_a_stream_that_is_not_asked_for_is_no_fault() -> None:
    for value in (False, None):
        body = {"model": "tiny", "stream": value}
        assert FILE.check(io.BytesIO(line("a", body=body))).lines == 1


def test_an_overlong_line_does_not_hide_the_next() -> None:
    found = faults(line("a", body={"model": "tiny", "x": "y" * 90000}), b"{", line("c"))
    assert [(fault.line, fault.code) for fault in found] == [(1, "request_too_large"), (2, "invalid_json_line")]


@pytest.mark.long
def test_an_empty_file_and_one_of_too_many_lines_are_refused() -> None:
    assert [fault.code for fault in faults(b"\n \n")] == ["empty_file"]
    many = faults(*(line(str(number)) for number in range(MOST_LINES + 1)))
    assert [(fault.code, fault.line) for fault in many] == [("too_many_requests", MOST_LINES + 1)]


def test_the_first_faults_are_listed_and_no_more() -> None:
    assert len(faults(*[b"{"] * 500)) == MOST_FAULTS


@given(st.binary(max_size=200))
def test_no_bytes_are_read_with_anything_but_faults(content: bytes) -> None:
    try:
        FILE.check(io.BytesIO(content))
    except FileRefused as exc:
        assert exc.faults
        assert all("msgspec" not in fault.message and "Raw" not in fault.message for fault in exc.faults)


def test_batches_are_for_every_path_that_takes_json() -> None:
    taken = {kind.path for kind in HOT_PATHS.values() if kind.takes_batches}
    assert {CHAT, "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/messages"} <= taken
    assert "/v1/audio/transcriptions" not in taken


def test_a_result_has_openais_fields_and_the_bodys_own_numbers() -> None:
    body = b'{\n "x": 1.10,\n "big": 12345678901234567890123, "usage": {"prompt_tokens": 3}}'
    result = result_of(LINE, answer(body=body))
    record = json.loads(result.record)
    assert set(record) == {"id", "custom_id", "response", "error"}
    assert record["custom_id"] == "a"
    assert record["id"].startswith("batch_req_")
    assert record["error"] is None
    assert record["response"]["status_code"] == 200
    assert record["response"]["request_id"] == "req-1"
    assert '"x":1.10,"big":12345678901234567890123' in result.record
    assert (result.is_error, result.usage) == (False, BatchUsage(input_tokens=3))
    assert "\n" not in result.record


def test_an_error_is_a_result_with_its_body() -> None:
    result = result_of(LINE, answer(404, b'{"error": {"code": "model_not_found"}}'))
    assert result.is_error
    assert json.loads(result.record)["response"]["body"]["error"]["code"] == "model_not_found"
    broken = json.loads(result_of(LINE, answer(0, b"")).record)
    assert (broken["response"], broken["error"]["code"]) == (None, "answer_broken")
    assert json.loads(result_of(LINE, answer(500, b"<html>\xff")).record)["response"]["body"] == "<html>�"


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (
            {
                "prompt_tokens": 5,
                "completion_tokens": 3,
                "prompt_tokens_details": {"cached_tokens": 4},
                "completion_tokens_details": {"reasoning_tokens": 2},
            },
            BatchUsage(input_tokens=5, cached_tokens=4, output_tokens=3, reasoning_tokens=2),
        ),
        ({"input_tokens": 5, "output_tokens": 3}, BatchUsage(input_tokens=5, output_tokens=3)),
        ({"prompt_tokens": 5, "total_tokens": 5}, BatchUsage(input_tokens=5)),
        ({"prompt_tokens": None, "prompt_tokens_details": None}, BatchUsage()),
        (None, BatchUsage()),
        ("much", BatchUsage()),
    ],
)
def test_tokens_are_read_in_the_words_of_every_endpoint(usage: Any, expected: BatchUsage) -> None:
    assert usage_in(json.dumps({"usage": usage}).encode()) == expected


def test_requests_without_a_result_are_named_with_the_reason() -> None:
    content = io.BytesIO(line("a") + b"\n" + line("b"))
    (record,) = unasked_records(FILE.lines(content), {1}, BatchState.EXPIRED)
    read = json.loads(record)
    assert (read["custom_id"], read["response"], read["error"]["code"]) == ("b", None, "batch_expired")


def test_refusals_for_now_are_waited_out_and_others_are_results() -> None:
    for status in (429, 503):
        later = again(answer(status, retry_after_s=7.0), failures=MOST_FAILURES)
        assert later is not None
        assert (later.after_s, later.holds_all, later.is_failure) == (7.0, True, False)
    for status in (200, 400, 403, 404, 413, 422):
        assert again(answer(status), failures=0) is None
    for status in (0, 429, 500, 502, 503, 504):  # a 429 without a time can never pass
        repeat = again(answer(status), failures=0)
        assert repeat is not None
        assert repeat.is_failure
        assert again(answer(status), failures=MOST_FAILURES - 1) is None


@pytest.mark.parametrize(
    ("limit", "remaining", "reset", "expected"),
    [
        ("100", "20", "30s", 0.0),
        ("100", "19", "30s", 30.0),
        ("100", "0", "1m0s", 60.0),
        ("100", "0", "1m2.5s", 62.5),
        ("100", "0", "12ms", 0.012),
        ("100", "0", "soon", 0.0),
    ],
)
def test_a_fifth_of_a_limit_is_left_to_the_keys_other_requests(
    limit: str, remaining: str, reset: str, expected: float
) -> None:
    for name in ("requests", "tokens"):
        values = {"limit": limit, "remaining": remaining, "reset": reset}
        headers = {f"x-ratelimit-{part}-{name}": value for part, value in values.items()}
        assert leaves_s(headers) == pytest.approx(expected)
    assert leaves_s({}) == 0.0


@given(
    places=st.floats(0, 500),
    interactive=st.integers(0, 600),
    share=st.floats(0.01, 1.0),
    sharers=st.integers(0, 8),
)
def test_batches_take_only_what_clients_leave(places: float, interactive: int, share: float, sharers: int) -> None:
    load = PoolLoad(places=places, interactive=interactive, is_visited=bool(interactive), waiting=0)
    shares = BatchShares(alone=share, beside_clients=share / 2)
    allowed = lines_allowed(load, shares, sharers)
    assert 0 <= allowed <= max(1, places * (share / 2 if interactive else share))
    assert lines_allowed(replace(load, is_visited=True), shares, sharers) <= allowed
    if interactive:
        assert allowed <= max(0, places - interactive)
    else:
        assert allowed >= 1
    assert lines_allowed(replace(load, waiting=1), shares, sharers) == 0
