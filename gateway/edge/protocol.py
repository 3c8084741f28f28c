"""The gateway's HTTP server: uvicorn's protocol, whose requests to the hot paths never become ASGI tasks.

Requests of one connection are answered in their order, whether the hot path or the application answers each of them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, Final, cast

import httptools
from uvicorn.config import Config
from uvicorn.server import ServerState

from gateway.edge.client_reading import NO_KIND, PIECE, ClientReading
from gateway.edge.exchange import Exchange
from gateway.edge.http_message import RequestHead
from gateway.edge.parts import Gateway
from gateway.edge.translated.exchange import TranslatedExchange
from gateway.edge.turn import LARGEST_HEAD, head_too_large, is_too_large
from gateway.errors import GatewayError, MalformedRequest, MethodNotAllowed, RequestTooSlow
from gateway.routing.paths import HOT_PATHS

log = logging.getLogger(__name__)

_LINGER_S: Final = 1.0
"""How long a refused client is read from, so that it can read its answer before the connection is reset."""
_DRAIN_GRACE_S: Final = 1.0
"""How long an idle connection stays open in a drain, so that a request that is on its way is answered."""


class EdgeProtocol(ClientReading):
    """The connection of one client."""

    def __init__(
        self,
        gateway: Gateway,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(gateway, config, server_state, app_state, _loop)
        self._is_advancing = False
        self._segment_bytes = self._head_bytes = 0
        self._was_in_head = self._has_begun_head = False
        self._offers_upgrade = False
        self._since = time.monotonic()
        """When the connection last began to wait for its client."""

    # called by the event loop

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._control_flow()
        self._edge.clients.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._edge.clients.discard(self)
        answering, self._answering = self._answering, None
        if answering is not None:
            answering.client_left()
        if self._is_busy_with_asgi:
            self._asgi.disconnected = True
            self._asgi.message_event.set()  # uvicorn wakes only the last request, maybe an exchange
        self.pipeline.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            return
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        if self._rest or len(data) > PIECE:
            self._parse_in_pieces(data)
        else:
            self._parse(data)
        if self._reading is not None:
            self._answer_refused()

    def _parse(self, data: bytes | memoryview) -> None:
        self._was_in_head = self._is_in_head
        self._has_begun_head = False
        self._segment_bytes = len(data)
        self._is_feeding = True
        try:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as exc:
                self._parse_without_upgrade(memoryview(data)[exc.args[0] :])
        except httptools.HttpParserCallbackError as exc:  # a callback of ours raised
            log.error("unforeseen error", exc_info=exc)
            self.transport.abort()
        except httptools.HttpParserError as exc:
            self._end_with(MalformedRequest(f"this is not HTTP/1.1: {exc}"))
        finally:
            self._is_feeding = False
        if self._is_in_head and not self._is_deaf:
            self._head_bytes = 0 if self._has_begun_head else self._head_bytes + len(data)
            if self._head_bytes > LARGEST_HEAD:
                self._end_with(head_too_large())

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._answering is not None:
            self._answering.pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._answering is not None:
            self._answering.resume()
        elif self.pipeline and not self._is_busy_with_asgi:
            self._advance()

    # called by the server and the sweep

    def shutdown(self) -> None:
        """Drain: answer what is under way, and what still comes until the client closes this connection."""
        self._edge.is_draining = True
        if self._is_busy_with_asgi:
            self._asgi.keep_alive = False
        self._since = time.monotonic()

    def check(self, now: float) -> None:
        """Close a connection whose client keeps it waiting for too long."""
        waited_s = now - self._since
        if self._is_half_closed and self._is_gone():
            self.transport.abort()
        elif self._is_deaf:
            if waited_s > _LINGER_S and self._answering is None and not self._is_busy:
                self.transport.abort()
        elif self._is_busy or self._is_in_head:
            reading = self._reading
            if self._is_busy and (reading is None or not reading.is_being_read):
                return
            if waited_s > self._gateway.settings.receive_timeout_s:
                self._end_with(RequestTooSlow("the request did not arrive in time"))
        elif waited_s > (_DRAIN_GRACE_S if self._edge.is_draining else self.timeout_keep_alive):
            if not self.transport.get_write_buffer_size():
                self.transport.close()
            elif waited_s > self._gateway.settings.slow_reader_timeout_s:
                self.transport.abort()  # a close would wait for the client to read

    # called by the parser

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._is_in_head = self._has_begun_head = True
        self._since = time.monotonic()

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        self._offers_upgrade = self.parser.should_upgrade()
        if self._is_deaf:
            return
        if self._offers_upgrade:  # parsed once more without its offer, except CONNECT, which is one itself
            if self.parser.get_method() == b"CONNECT":
                self._end_with(MethodNotAllowed("CONNECT is for proxies, and this gateway is none"))
            return
        path, _, _ = self.url.partition(b"?")
        kind = HOT_PATHS.get(path)
        may_be_large = self._was_in_head or self._segment_bytes > LARGEST_HEAD
        is_large = may_be_large and is_too_large(self.url, self.headers)
        if kind is None and not is_large:
            try:
                kind = self._read_target()
            except GatewayError as exc:
                self._end_with(exc)
                return
        if (kind is None or self.parser.get_method() != b"POST") and not is_large:
            self._hand_to_asgi()
            return
        head = RequestHead("" if kind is None else kind.path, self.headers, self._edge.request_ids.new())
        is_current = self.parser.get_http_version() == "1.1"
        kind = kind or NO_KIND
        exchange_of = TranslatedExchange if kind.through else Exchange
        exchange = exchange_of(self._gateway, self, self._on_over, head, kind)
        exchange.takes_chunks = is_current
        exchange.keep_alive = is_current and self.parser.should_keep_alive()
        exchange.expects_continue = is_current and self.expect_100_continue  # RFC 9110, 10.1.1
        if is_large:
            exchange.refuse(head_too_large())
        exchange.judge_head()
        self._reading = exchange
        self._enqueue(exchange)

    def on_body(self, body: bytes) -> None:
        if self._reading is not None:
            self._reading.add_body(body)
        elif not self._is_deaf and not self._offers_upgrade:
            super().on_body(body)

    def on_message_complete(self) -> None:
        exchange, self._reading = self._reading, None
        if exchange is None:
            if self._offers_upgrade:
                return
            self._is_reading_asgi = False
            if not self._is_deaf:
                super().on_message_complete()
            return
        self._is_deaf = self._is_deaf or not exchange.keep_alive
        exchange.complete()
        if self.pipeline and self._has_enough():
            self.flow.pause_reading()

    def _on_over(self) -> None:
        """Begin the next request, or wait for one, as the answer to the last is whole."""
        exchange, self._answering = self._answering, None
        self.server_state.total_requests += 1
        self._since = time.monotonic()
        if exchange is None or self.transport.is_closing():
            return
        if exchange.keep_alive:
            if self.pipeline or self._reading is not None:
                self._advance()
            if self.flow.read_paused:
                self.flow.resume_reading()
            if self._is_half_closed:
                self._end_half_closed()
        elif self._is_half_closed:
            self.transport.close()
        else:
            self._listen_no_more()
            self.transport.write_eof()  # half a close, then reading on: as RFC 9112, 9.6 asks

    def on_response_complete(self) -> None:
        """Begin the next request after an answer of the application."""
        super().on_response_complete()
        self.flow.resume_reading()  # once more: uvicorn does before it takes the next request from those that wait
        if self._is_half_closed and not self.transport.is_closing():
            self._end_half_closed()

    @property
    def _is_busy(self) -> bool:
        """The last request is not answered yet."""
        return self.cycle is not None and not self.cycle.response_complete

    def _enqueue(self, exchange: Exchange) -> None:
        # the answer to a client that has not read the last one would pile up here
        is_busy = self._is_busy or self.flow.write_paused
        self.cycle = cast(Any, exchange)  # where uvicorn looks whether its next request has to wait
        if is_busy:
            self.pipeline.appendleft((cast(Any, exchange), cast(Any, None)))
        else:
            self._answering = exchange
            exchange.start()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        if app is None:  # an exchange, as `_enqueue` put it there
            self._answering = cycle
            self._since = time.monotonic()
            cycle.start()
        else:
            self._asgi = cycle
            super()._start_asgi_task(cycle, app)

    def _advance(self) -> None:
        """Begin waiting requests until one is not answered at once; a loop, as a client may send any number."""
        if self._is_advancing:
            return
        self._is_advancing = True
        while self.pipeline and self._answering is None and not (self.flow.write_paused or self.transport.is_closing()):
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
            if app is not None:
                break  # uvicorn pops the next one when the application's answer is whole
        self._is_advancing = False
        if not self._is_feeding:
            self._answer_refused()

    def _answer_refused(self) -> None:
        """Answer a refused request now that all that came is read, and not after the rest of its body."""
        exchange = self._reading
        if exchange is not None and exchange.is_refused_early:
            exchange.keep_alive = False
            self._listen_no_more()
            exchange.complete()

    def _hand_to_asgi(self) -> None:
        url, headers, expects_continue = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url = url
        self.headers.extend(headers)
        self.expect_100_continue = expects_continue
        self._is_reading_asgi = True
        super().on_headers_complete()
        if self._edge.is_draining:
            self.cycle.keep_alive = False
