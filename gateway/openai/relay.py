"""The paths of inference requests: resolve the name, relay the bytes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response, StreamingResponse

from engines.catalog import ADDRESS_FIELDS
from gateway.answer_facts import Asked
from gateway.auth import names_of
from gateway.deps import CallerDep, Gateway, GatewayDep, body_of, credential_of
from gateway.edge.form import Form, parse_form
from gateway.edge.paths import HOT_PATHS
from gateway.errors import ClientLeft, EngineUnavailable, InvalidRequest, ModelNotFound, NothingStable, envelope
from gateway.finished_metrics import BROKEN, CLIENT_LEFT
from gateway.limit_ledger import Admitted
from gateway.limits import estimate_tokens, longest_answer
from gateway.openai.request_facts import RequestFacts
from gateway.routing import Target, resolve, sticky_key
from gateway.upstream import Upstream, UpstreamAnswer, UpstreamRequest
from gateway.witness import Witness
from registry.keys import Scope
from registry.observation import Side

log = logging.getLogger(__name__)
router = APIRouter()

_PASSED_HEADERS = ("content-type", "retry-after")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Taken:
    """A request that may be sent: the fields of its body, the form that they are of if it is one, what it counts as."""

    body: dict[str, Any]
    form: Form | None
    admitted: Admitted


async def _admission(request: Request, gateway: GatewayDep, caller: CallerDep) -> AsyncIterator[_Taken]:
    """The body of a request that may be sent, and its place on the books, which it leaves when it is answered."""
    facts: RequestFacts = request.state.facts
    form = None
    if facts.kind.is_multipart:
        raw = await body_of(request, gateway.settings.max_form_bytes)
        form = parse_form(raw, request.headers.get("content-type", ""))
        body = {"model": form.model, "stream": form.streams, "prompt": sha256(raw).hexdigest()}
    else:
        raw = await body_of(request, gateway.settings.max_body_bytes)
        body = parse_body(raw)
    facts.asked_name, facts.key_id = body["model"], caller.key_id
    gateway.keyring.check(caller, Scope.INFERENCE, names_of(body["model"], gateway.feed.table.aliases))
    limits, tokens = gateway.limits, estimate_tokens(len(raw), longest_answer(body))
    admitted = await limits.admit_shared(caller, tokens) if limits.is_shared else limits.admit(caller, tokens)
    try:
        yield _Taken(body=body, form=form, admitted=admitted)
    finally:
        limits.release(admitted)


async def relay(request: Request, gateway: GatewayDep, taken: Annotated[_Taken, Depends(_admission)]) -> Response:
    """Answer with the revision that the route chooses; `x-lorry-revision` and the body's `model` name it.

    While a rollout is open, header `x-lorry-side` chooses `canary` or `stable` instead.
    """
    facts: RequestFacts = request.state.facts
    body, admitted, kind = taken.body, taken.admitted, facts.kind
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
        form=taken.form,
        content_type="application/json" if taken.form is None else request.headers["content-type"],
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
    headers |= admitted.standing.headers()
    headers |= {"x-lorry-revision": target.served_name, "x-lorry-replica": answer.endpoint.replica}
    streamed = headers.get("content-type", "").startswith("text/event-stream")
    status = answer.response.status_code
    if not streamed:
        whole = await _whole(witness.over(answer), answer, facts)
        if (used := tokens_used(whole)) is not None:
            gateway.limits.settle(admitted, used)
        return Response(whole, status, headers)
    return StreamingResponse(_relayed(witness.over(answer), answer, facts), status, headers)


for _kind in HOT_PATHS.values():
    router.add_api_route(_kind.path, relay, methods=["POST"])


def tokens_used(answer: bytes) -> int | None:
    """`usage.total_tokens` of a whole answer, None where it does not say."""
    try:
        usage = orjson.loads(answer)["usage"]["total_tokens"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
    return usage if isinstance(usage, int) else None


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
            request.state.facts.reason = CLIENT_LEFT
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
