"""Gives every request its id and tells of inference requests when they are over; plain ASGI, streams pass untouched."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.edge.finished import FinishedListener
from gateway.edge.paths import HOT_PATHS
from gateway.finished_metrics import CLIENT_LEFT
from gateway.openai.request_facts import RequestFacts
from gateway.traces import Traces

_LEGAL = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RequestIds:
    """Every answer carries `x-request-id`: the caller's own if it is a plain token, else a new one."""

    def __init__(self, app: ASGIApp, traces: Traces, listeners: Sequence[FinishedListener]) -> None:
        self._app = app
        self._traces = traces
        self._listeners = listeners

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with `state.request_id` set, and `state.facts` on the paths of inference."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        offered = Headers(scope=scope).get("x-request-id", "")
        request_id = offered if _LEGAL.fullmatch(offered) else f"req-{uuid4().hex}"
        scope.setdefault("state", {})["request_id"] = request_id
        kind = HOT_PATHS.get(scope["path"].encode())
        if kind is None or scope["method"] != "POST":
            await self._app(scope, receive, _with_id(send, request_id))
            return
        facts = RequestFacts(kind=kind, request_id=request_id, began=time.monotonic())
        facts.traceparent = self._traces.begin(dict(scope["headers"])).decode()
        scope["state"]["facts"] = facts
        await self._follow(facts, scope, receive, _with_id(send, request_id))

    async def _follow(self, facts: RequestFacts, scope: Scope, receive: Receive, send: Send) -> None:
        status, is_whole = 500, False

        async def send_and_note(message: Message) -> None:
            nonlocal status, is_whole
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)
            is_whole = message["type"] == "http.response.body" and not message.get("more_body", False)

        try:
            await self._app(scope, receive, send_and_note)
        finally:
            if not is_whole and not facts.reason:
                facts.reason = CLIENT_LEFT
            told = facts.finished(status, time.monotonic())
            for listener in self._listeners:
                listener.finished(told)


def _with_id(send: Send, request_id: str) -> Send:
    async def send_with_id(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message)["x-request-id"] = request_id
        await send(message)

    return send_with_id
