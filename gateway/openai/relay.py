"""The paths of inference requests: resolve the name, relay the bytes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from hashlib import sha256
from typing import Any

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from engines.catalog import ADDRESS_FIELDS
from gateway.answer_facts import Asked
from gateway.deps import Gateway, GatewayDep, body_of, credential_of
from gateway.edge.form import Form, parse_form
from gateway.edge.paths import HOT_PATHS, PathKind
from gateway.errors import (
    HTTP_ERRORS,
    ClientLeft,
    EngineUnavailable,
    GatewayError,
    InvalidRequest,
    ModelNotFound,
    NothingStable,
    envelope,
)
from gateway.finished_metrics import BROKEN, CLIENT_LEFT
from gateway.openai.request_facts import RequestFacts
from gateway.routing import Target, resolve, sticky_key
from gateway.upstream import Upstream, UpstreamAnswer, UpstreamRequest
from gateway.witness import Witness
from registry.observation import Side

log = logging.getLogger(__name__)
router = APIRouter()

_PASSED_HEADERS = ("content-type", "retry-after")


async def relay(request: Request, gateway: GatewayDep) -> Response:
    """Answer with the revision that the route chooses; `x-lorry-revision` and the body's `model` name it.

    While a rollout is open, header `x-lorry-side` chooses `canary` or `stable` instead.
    """
    facts: RequestFacts = request.state.facts
    try:
        return await _relay(request, gateway, facts)
    except GatewayError as exc:
        facts.reason = CLIENT_LEFT if isinstance(exc, ClientLeft) else code_of(exc)
        raise


for _kind in HOT_PATHS.values():
    router.add_api_route(_kind.path, relay, methods=["POST"])


async def _relay(request: Request, gateway: Gateway, facts: RequestFacts) -> Response:
    kind = facts.kind
    body, form = await _read_body(request, gateway, kind)
    facts.asked_name = body["model"]
    facts.streamed = kind.may_stream and body.get("stream") is True
    key = sticky_key(body, request.headers.get("x-session-id"), credential_of(request))
    target = await _resolve(gateway, body["model"], key, side_of(request.headers.get("x-lorry-side")))
    if not kind.is_judged:
        target = replace(target, evidence=None)
    facts.served_name = target.served_name
    upstream_request = UpstreamRequest(
        path=kind.path,
        served_name=target.served_name,
        body=body,
        form=form,
        content_type="application/json" if form is None else request.headers["content-type"],
        request_id=facts.request_id,
        facts=facts,
    )
    copy = gateway.shadow.choose(target, kind.path, body)
    witness = Witness(gateway.observations, target, Asked.of(body, keep_text=copy is not None), facts.began)
    if copy is not None:
        witness.tell(partial(gateway.shadow.make, copy))
    answer = await _send_unless_gone(request, gateway.upstream, upstream_request, witness)
    facts.first_byte_at = time.monotonic()
    headers = {name: value for name in _PASSED_HEADERS if (value := answer.response.headers.get(name))}
    headers |= {"x-lorry-revision": target.served_name, "x-lorry-replica": answer.endpoint.replica}
    streamed = headers.get("content-type", "").startswith("text/event-stream")
    status = answer.response.status_code
    if not streamed:
        return Response(await _whole(witness.over(answer), answer, facts), status, headers)
    return StreamingResponse(_relayed(witness.over(answer), answer, facts), status, headers)


async def _read_body(request: Request, gateway: Gateway, kind: PathKind) -> tuple[dict[str, Any], Form | None]:
    """The fields that matter, and the form that they are of, if it is one."""
    if not kind.is_multipart:
        return parse_body(await body_of(request, gateway.settings.max_body_bytes)), None
    raw = await body_of(request, gateway.settings.max_form_bytes)
    form = parse_form(raw, request.headers.get("content-type", ""))
    return {"model": form.model, "stream": form.streams, "prompt": sha256(raw).hexdigest()}, form


def code_of(exc: GatewayError) -> str:
    """The `code` of the error's envelope."""
    return next(HTTP_ERRORS[kind][1] for kind in type(exc).__mro__ if kind in HTTP_ERRORS)


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
    for field in ADDRESS_FIELDS - {"model"} & body.keys():
        raise InvalidRequest(f"{field} is not taken here: an adapter is named by model", param=field)
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


async def _whole(chunks: AsyncGenerator[bytes, None], answer: UpstreamAnswer, facts: RequestFacts) -> bytes:
    try:
        async with aclosing(chunks):
            body = b"".join([chunk async for chunk in chunks])
    finally:
        await answer.close()
    facts.note_chunk(body)
    return body


async def _relayed(
    chunks: AsyncGenerator[bytes, None], answer: UpstreamAnswer, facts: RequestFacts
) -> AsyncIterator[bytes]:
    """The engine's bytes; if it fails on the way, an error event and a clean end."""
    try:
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk
                facts.note_chunk(chunk)
    except EngineUnavailable as exc:
        facts.reason = BROKEN
        event = envelope(503, "engine_unavailable", str(exc))
        name = f"event: {facts.kind.error_event}\n" if facts.kind.error_event else ""
        yield name.encode() + b"data: " + orjson.dumps(event) + b"\n\n"
    finally:
        await answer.close()
