"""`/v1/chat/completions` and `/v1/completions`: resolve the name, relay the bytes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from engines.catalog import ADDRESS_FIELDS
from gateway.deps import Gateway, GatewayDep, body_of, credential_of
from gateway.errors import EngineUnavailable, InvalidRequest, ModelNotFound, NothingStable, envelope
from gateway.routing import resolve, sticky_key
from gateway.upstream import UpstreamAnswer, UpstreamRequest

log = logging.getLogger(__name__)
router = APIRouter()

_PASSED_HEADERS = ("content-type", "retry-after")


@router.post("/v1/chat/completions")
@router.post("/v1/completions")
async def relay(request: Request, gateway: GatewayDep) -> Response:
    """Answer with the revision that the route chooses; `x-lorry-revision` and the body's `model` name it."""
    began = time.monotonic()
    body = parse_body(await body_of(request, gateway.settings.max_body_bytes))
    key = sticky_key(body, request.headers.get("x-session-id"), credential_of(request))
    served_name = await _resolve(gateway, body["model"], key)
    request.state.served_name = served_name
    upstream_request = UpstreamRequest(
        path=request.url.path,
        served_name=served_name,
        body=body,
        request_id=request.state.request_id,
    )
    answer = await _send_unless_gone(request, gateway.upstream.send(upstream_request))
    gateway.metrics.first_byte.labels(served_name).observe(time.monotonic() - began)
    headers = {name: value for name in _PASSED_HEADERS if (value := answer.response.headers.get(name))}
    headers |= {"x-lorry-revision": served_name, "x-lorry-replica": answer.endpoint.replica}
    streamed = headers.get("content-type", "").startswith("text/event-stream")
    status = answer.response.status_code
    if not streamed:
        return Response(await _whole(request, answer), status, headers)
    broken = gateway.metrics.broken_streams.labels(answer.endpoint.replica)
    return StreamingResponse(_relayed(answer, broken.inc), status, headers)


async def _resolve(gateway: Gateway, name: str, key: str) -> str:
    """The served name; a name that the table lacks is looked up once more, it may be younger than the table."""
    try:
        return resolve(gateway.feed.table, name, key)
    except (ModelNotFound, NothingStable):
        await gateway.feed.refresh()
        return resolve(gateway.feed.table, name, key)


def parse_body(raw: bytes) -> dict[str, Any]:
    """The request's JSON object; `InvalidRequest` if it is none or names no model."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as exc:
        raise InvalidRequest(f"the body is not JSON: {exc}") from exc
    if not isinstance(body, dict):
        raise InvalidRequest("the body must be a JSON object")
    if not isinstance(body.get("model"), str) or not body["model"]:
        raise InvalidRequest("model must be the name of a model; GET /v1/models lists them", param="model")
    for field in ADDRESS_FIELDS - {"model"} & body.keys():
        raise InvalidRequest(f"{field} is not taken here: an adapter is named by model", param=field)
    return body


async def _send_unless_gone(request: Request, send: Coroutine[Any, Any, UpstreamAnswer]) -> UpstreamAnswer:
    """The answer of *send*, which is cancelled when the client leaves first (the generation stops with it)."""
    sending = asyncio.create_task(send)
    leaving = asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not sending.done():
            raise EngineUnavailable("the client left before the answer began")
        return await sending
    finally:
        leaving.cancel()
        sending.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _whole(request: Request, answer: UpstreamAnswer) -> bytes:
    try:
        return b"".join([chunk async for chunk in answer.chunks()])
    finally:
        await answer.close()


async def _relayed(answer: UpstreamAnswer, count_broken: Callable[[], None]) -> AsyncIterator[bytes]:
    """The engine's bytes; if it fails on the way, an error event and a clean end."""
    try:
        async for chunk in answer.chunks():
            yield chunk
    except EngineUnavailable as exc:
        count_broken()
        event = envelope(503, "engine_unavailable", str(exc))
        yield b"data: " + orjson.dumps(event) + b"\n\n"
    finally:
        await answer.close()
