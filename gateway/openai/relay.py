"""`/v1/chat/completions` and `/v1/completions`: resolve the name, relay the bytes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from functools import partial
from typing import Any

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from gateway.answer_facts import Asked
from gateway.deps import Gateway, GatewayDep, body_of, credential_of
from gateway.errors import ClientLeft, EngineUnavailable, InvalidRequest, ModelNotFound, NothingStable, envelope
from gateway.routing import Target, resolve, sticky_key
from gateway.upstream import Upstream, UpstreamAnswer, UpstreamRequest
from gateway.witness import Witness
from registry.observation import Side

log = logging.getLogger(__name__)
router = APIRouter()

_PASSED_HEADERS = ("content-type", "retry-after")


@router.post("/v1/chat/completions")
@router.post("/v1/completions")
async def relay(request: Request, gateway: GatewayDep) -> Response:
    """Answer with the revision that the route chooses; `x-lorry-revision` and the body's `model` name it.

    While a rollout is open, header `x-lorry-side` chooses `canary` or `stable` instead.
    """
    began = time.monotonic()
    body = parse_body(await body_of(request, gateway.settings.max_body_bytes))
    key = sticky_key(body, request.headers.get("x-session-id"), credential_of(request))
    target = await _resolve(gateway, body["model"], key, side_of(request.headers.get("x-lorry-side")))
    request.state.served_name = target.served_name
    upstream_request = UpstreamRequest(
        path=request.url.path,
        served_name=target.served_name,
        body=orjson.dumps(body | {"model": target.served_name}),
        request_id=request.state.request_id,
    )
    copy = gateway.shadow.choose(target, request.url.path, body)
    witness = Witness(gateway.observations, target, Asked.of(body, keep_text=copy is not None), began)
    if copy is not None:
        witness.tell(partial(gateway.shadow.make, copy))
    answer = await _send_unless_gone(request, gateway.upstream, upstream_request, witness)
    gateway.metrics.first_byte.labels(target.served_name).observe(time.monotonic() - began)
    headers = {name: value for name in _PASSED_HEADERS if (value := answer.response.headers.get(name))}
    headers |= {"x-lorry-revision": target.served_name, "x-lorry-replica": answer.endpoint.replica}
    streamed = headers.get("content-type", "").startswith("text/event-stream")
    status = answer.response.status_code
    if not streamed:
        return Response(await _whole(witness.over(answer), answer), status, headers)
    broken = gateway.metrics.broken_streams.labels(answer.endpoint.replica)
    return StreamingResponse(_relayed(witness.over(answer), answer, broken.inc), status, headers)


async def _resolve(gateway: Gateway, name: str, key: str, side: Side | None) -> Target:
    """The target; a name that the table lacks is looked up once more, it may be younger than the table."""
    try:
        return resolve(gateway.feed.table, name, key, side)
    except (ModelNotFound, NothingStable):
        await gateway.feed.refresh()
        return resolve(gateway.feed.table, name, key, side)


def side_of(header: str | None) -> Side | None:
    """The side that `x-lorry-side` names, None without it; `InvalidRequest` for another value."""
    if header is None or header in (Side.CANARY, Side.STABLE):
        return None if header is None else Side(header)
    raise InvalidRequest(f"x-lorry-side must be canary or stable; got {header[:64]!r}", param="x-lorry-side")


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
    return body


async def _send_unless_gone(
    request: Request, upstream: Upstream, upstream_request: UpstreamRequest, witness: Witness
) -> UpstreamAnswer:
    """The answer; the sending is cancelled when the client leaves first (the generation stops with it)."""
    sending = asyncio.create_task(upstream.send(upstream_request, witness.failed_attempt))
    leaving = asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not sending.done():
            raise ClientLeft("the client left before the answer began")
        return await sending
    except ClientLeft:
        raise
    except EngineUnavailable:
        witness.gave_up()
        raise
    finally:
        leaving.cancel()
        sending.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _whole(chunks: AsyncGenerator[bytes, None], answer: UpstreamAnswer) -> bytes:
    try:
        async with aclosing(chunks):
            return b"".join([chunk async for chunk in chunks])
    finally:
        await answer.close()


async def _relayed(
    chunks: AsyncGenerator[bytes, None], answer: UpstreamAnswer, count_broken: Callable[[], None]
) -> AsyncIterator[bytes]:
    """The engine's bytes; if it fails on the way, an error event and a clean end."""
    try:
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk
    except EngineUnavailable as exc:
        count_broken()
        event = envelope(503, "engine_unavailable", str(exc))
        yield b"data: " + orjson.dumps(event) + b"\n\n"
    finally:
        await answer.close()
