"""A receiver gets the right spans of requests through a gateway."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx2
import orjson
import pytest

from gateway.errors import StartFailed
from gateway.settings import TraceSettings
from gateway.telemetry.traces import trace_headers
from tests.gateway.scripted_gateways import ScriptedGateways
from tests.gateway.telemetry.otlp_receiver import OtlpReceiver
from tests.stub_engine import Script, StubEngine, answer, stream, stream_then_drop
from tests.waiting import wait_for

SECRET = "the words that nobody else may read"
CHAT = {"model": "tiny", "messages": [{"role": "user", "content": SECRET}]}
WHOLE = answer(
    200,
    orjson.dumps(
        {
            "model": "tiny",
            "choices": [{"message": {"content": SECRET}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 9, "completion_tokens": 4},
        }
    ),
)
TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
NOT_SAMPLED = {"traceparent": f"00-{TRACE}-{CALLER}-00"}
ERROR = 2

Serve = Callable[..., tuple[httpx2.Client, StubEngine]]


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    receiving = OtlpReceiver()
    yield receiving
    receiving.close()


@pytest.fixture
def serve(scripted: ScriptedGateways, receiver: OtlpReceiver) -> Serve:
    """Starts a gateway with traces before one stub engine."""

    def start(script: Script, traces: TraceSettings | None = None) -> tuple[httpx2.Client, StubEngine]:
        settings = traces or TraceSettings(endpoint=receiver.url, sample_share=1.0)
        served = scripted.serve([script], traces=settings, engine="vllm", pool="default")
        return served.client, scripted.engines[0]

    return start


@pytest.mark.long
def test_a_span_says_what_the_conventions_name_and_joins_caller_and_engine(
    serve: Serve, receiver: OtlpReceiver
) -> None:
    client, engine = serve(WHOLE)
    assert client.post("/v1/chat/completions", json=CHAT, headers=SAMPLED | {"x-request-id": "mine"}).status_code == 200
    (span,) = wait_for(lambda: receiver.spans)
    assert (span["name"], span["trace_id"], span["parent_id"]) == ("chat tiny", TRACE, CALLER)
    assert engine.heads[0]["traceparent"] == f"00-{TRACE}-{span['span_id']}-01"
    assert span["resource"]["service.name"] == "lorry-gateway"
    said = span["attributes"]
    told = {name: said.pop(name) for name in ("lorry.queued_s", "lorry.overhead_s", "lorry.first_byte_s")}
    assert all(0 <= seconds <= span["seconds"] for seconds in told.values())
    assert said == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "vllm",
        "gen_ai.request.model": "tiny",
        "gen_ai.response.model": "tiny",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 9,
        "gen_ai.usage.output_tokens": 4,
        "http.response.status_code": 200,
        "url.path": "/v1/chat/completions",
        "server.address": "127.0.0.1",
        "server.port": int(engine.url.rpartition(":")[2]),
        "lorry.request_id": "mine",
        "lorry.pool": "default",
        "lorry.replica": "r0",
        "lorry.streamed": False,
        "lorry.retries": 0,
    }
    assert SECRET.encode() not in receiver.bodies


@pytest.mark.long
def test_a_streams_reason_to_finish_is_the_engines_and_not_a_word_of_its_text(
    serve: Serve, receiver: OtlpReceiver
) -> None:
    text = orjson.dumps({"choices": [{"delta": {"content": '"finish_reason":"mine"'}, "finish_reason": None}]})
    last = orjson.dumps({"choices": [{"delta": {}, "finish_reason": "length"}]})
    usage = orjson.dumps({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 4}})
    client, _ = serve(stream(*(b"data: %b\n\n" % event for event in (text, last, text, usage, b"[DONE]"))))
    client.post("/v1/chat/completions", json={**CHAT, "stream": True})
    (span,) = wait_for(lambda: receiver.spans)
    assert span["attributes"]["gen_ai.response.finish_reasons"] == ["length"]
    assert span["attributes"]["gen_ai.usage.output_tokens"] == 4


@pytest.mark.long
def test_what_fails_has_its_kind_of_error(serve: Serve, receiver: OtlpReceiver) -> None:
    client, _ = serve(stream_then_drop(b'data: {"n": 1}\n\n'))
    client.post("/v1/chat/completions", json={**CHAT, "stream": True})
    client.post("/v1/chat/completions", json={**CHAT, "model": "ghost"})
    wait_for(lambda: len(receiver.spans) == 2)
    errors = {span["name"]: (span["status"], span["attributes"]["error.type"]) for span in receiver.spans}
    assert errors == {"chat tiny": (ERROR, "broken"), "chat ghost": (ERROR, "model_not_found")}


@pytest.mark.long
def test_the_caller_decides_what_is_sampled_and_the_share_the_rest(serve: Serve, receiver: OtlpReceiver) -> None:
    client, engine = serve(WHOLE, TraceSettings(endpoint=receiver.url, sample_share=0.0))
    for headers in ({}, NOT_SAMPLED, SAMPLED):
        client.post("/v1/chat/completions", json=CHAT, headers=headers)
    wait_for(lambda: receiver.spans)  # sent in one go with any that came before it
    assert [span["parent_id"] for span in receiver.spans] == [CALLER]
    assert [int(head["traceparent"][-2:], 16) & 1 for head in engine.heads] == [0, 0, 1]


def test_without_a_receiver_the_callers_own_trace_reaches_the_engine(serve: Serve, receiver: OtlpReceiver) -> None:
    client, engine = serve(WHOLE, TraceSettings())
    for headers in ({}, SAMPLED, {"traceparent": "nonsense"}):
        client.post("/v1/chat/completions", json=CHAT, headers=headers)
    assert [head.get("traceparent") for head in engine.heads] == [None, SAMPLED["traceparent"], None]
    assert receiver.spans == []


def test_a_receiver_that_is_away_costs_spans_and_no_request(serve: Serve) -> None:
    client, _ = serve(WHOLE, TraceSettings(endpoint="http://127.0.0.1:9/v1/traces", sample_share=1.0, timeout_s=0.1))
    assert client.post("/v1/chat/completions", json=CHAT).status_code == 200


def test_headers_for_the_receiver_come_from_the_environment() -> None:
    settings = TraceSettings(headers_env="MINE")
    assert trace_headers(settings, {}) == {}
    assert trace_headers(settings, {"MINE": "authorization=Bearer a=b, x=1"}) == {
        "authorization": "Bearer a=b",
        "x": "1",
    }
    with pytest.raises(StartFailed, match="MINE must be name=value") as refused:
        trace_headers(settings, {"MINE": "hunter2"})
    assert "hunter2" not in str(refused.value)
