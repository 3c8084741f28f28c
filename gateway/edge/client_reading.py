"""Reading from a client's connection where that is more than feeding the parser: the cases that a plain request misses.

Large segments are read in pieces, so that a client which sends thousands of requests at once has few of them parsed at
a time. Requests that offer another protocol are read as HTTP/1.1. A client that sends no more may still read.
"""

from __future__ import annotations

import asyncio
import socket
from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, Final, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from gateway.edge.exchange import Exchange
from gateway.edge.http_message import RequestHead
from gateway.edge.parts import Gateway
from gateway.edge.refusal import CLOSE, refusal_of
from gateway.edge.target import kind_of, plain_target
from gateway.edge.translated.exchange import TranslatedExchange
from gateway.errors import GatewayError
from gateway.routing.paths import HOT_PATHS, PathKind

PIECE: Final = 16 * 1024
"""Bytes that are parsed at a time: some hundred of the smallest requests."""
NO_KIND: Final = PathKind(path="", operation="", prompt_fields=())
_MOST_WAITING: Final = 16
_MOST_WAITING_BYTES: Final = 64 * 1024


class ClientFlow(FlowControl):
    """uvicorn's flow control, except that reading goes on only where the connection wants more."""

    def __init__(self, transport: asyncio.Transport, may_parse: Callable[[], bool], parse_rest: Callable[[], bool]):
        """*may_parse* returns False where enough waits; *parse_rest* has what was received parsed first, if any is."""
        super().__init__(transport)
        self._may_parse = may_parse
        self._parse_rest = parse_rest

    def resume_reading(self) -> None:
        """Read on, unless enough waits; the next answer then asks again.

        Nothing is read before the rest of the last read is parsed, or the rest of a large body would grow without end.
        """
        if self.read_paused and self._may_parse():
            self.read_paused = False
            if not self._parse_rest():
                self._transport.resume_reading()

    def read_on(self) -> None:
        """Read on after the rest was parsed, unless that paused reading again."""
        if not self.read_paused:
            self._transport.resume_reading()


class ClientReading(HttpToolsProtocol):
    """The reading part of `EdgeProtocol`."""

    _asgi: Any = None
    """The last request that went to the application."""
    _rest = b""
    """Bytes that were received and are not parsed yet, as enough requests wait."""
    _answering: Exchange | None = None
    _reading: Exchange | None = None
    """The request whose body is not whole yet."""
    _is_deaf = False
    _is_in_head = False
    _is_reading_asgi = False
    _is_feeding = False
    """The parser is being fed, and calls back."""
    _is_half_closed = False
    """The client sends no more, but may still read."""

    def __init__(
        self,
        gateway: Gateway,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        super().__init__(config, server_state, app_state, loop)
        self._gateway = gateway
        self._edge = gateway.edge

    @abstractmethod
    def data_received(self, data: bytes) -> None:
        """Take the next bytes in."""

    @abstractmethod
    def _parse(self, data: bytes | memoryview) -> None:
        """Parse the next bytes; requests that they complete are answered or wait."""

    @abstractmethod
    def _enqueue(self, exchange: Exchange) -> None:
        """Begin the request, or have it wait for the answers to earlier ones."""

    @abstractmethod
    def _on_over(self) -> None:
        """Go on after the last byte of an answer."""

    def _control_flow(self) -> None:
        """Control reading by what waits on this connection."""
        self.flow = self._flow = ClientFlow(self.transport, self._may_parse, self._has_rest_parsed)

    @property
    def _is_busy_with_asgi(self) -> bool:
        """The application answers a request."""
        return self._asgi is not None and not self._asgi.response_complete

    # large segments

    def _parse_in_pieces(self, data: bytes) -> None:
        """Parse as much as may wait, and keep the rest."""
        rest = memoryview(self._rest + data)
        self._rest = b""
        while rest and not (self.flow.read_paused or self._is_deaf):
            self._parse(rest[:PIECE])
            rest = rest[PIECE:]
        self._rest = b"" if self._is_deaf else bytes(rest)

    def _may_parse(self) -> bool:
        """Whether more may be read or parsed."""
        return self._is_deaf or not self._has_enough()

    def _has_rest_parsed(self) -> bool:
        """Parse what was received and is not parsed yet, once the caller is through; False if there is nothing."""
        if self._rest:
            self.loop.call_soon(self._parse_rest)
        return bool(self._rest)

    def _parse_rest(self) -> None:
        if not self.transport.is_closing():
            self.data_received(b"")
            self._flow.read_on()
            if self._is_half_closed:
                self._end_half_closed()

    def _has_enough(self) -> bool:
        """Whether so much waits on this connection that nothing is read until something is answered."""
        if len(self.pipeline) >= _MOST_WAITING:
            return True
        waiting: Iterable[Any] = (cycle for cycle, _ in self.pipeline)
        return sum(cycle.size if isinstance(cycle, Exchange) else len(cycle.body) for cycle in waiting) >= (
            _MOST_WAITING_BYTES
        )

    # other protocols

    def _parse_without_upgrade(self, rest: memoryview) -> None:
        """Parse a request again whose head asked for another protocol, as one that does not, then *rest*.

        RFC 9110, 7.8: a server may ignore `Upgrade`. The parser cannot: behind such a head it reads nothing.
        """
        while not self._is_deaf:
            head = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
            head += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
            self.parser.feed_data(b"\r\n".join([*head, b"", b""]))
            try:
                self.parser.feed_data(rest)
            except httptools.HttpParserUpgrade as exc:
                rest = rest[exc.args[0] :]
            else:
                return

    # clients that send no more

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep the connection until every whole request is answered; close it if none is under way."""
        is_cut_short = self._reading is not None and self._reading is self._answering
        # A client that sends no more ends its sending with its request. An end in the midst of the answer is a close:
        # nothing that could be sent there as a probe would leave the answer as it is.
        has_left = self._answering is not None and self._answering.has_begun
        if is_cut_short or has_left or not self._has_requests():
            return False
        self._is_half_closed = True
        self._probe()
        return True

    def _has_requests(self) -> bool:
        """Whether a request waits for its answer, or for being parsed."""
        return bool(self._rest) or (self.cycle is not None and not self.cycle.response_complete)

    def _end_half_closed(self) -> None:
        """Close the connection of a client that sends no more, if nothing that can be answered is under way."""
        # What is read on its behalf now may complete further requests.
        if self._is_feeding or self._rest or self.pipeline:
            return
        is_answering = self._answering is not None and self._answering is not self._reading
        is_asgi_answering = self._is_busy_with_asgi and not self._is_reading_asgi
        if not (is_answering or is_asgi_answering):
            self.transport.close()

    def _is_gone(self) -> bool:
        """Whether a client that sends no more has closed its connection, as its reset in answer to our bytes shows.

        Where reading has ended the event loop does not report the reset.
        """
        self._probe()
        connection = cast(socket.socket, self.transport.get_extra_info("socket"))
        return bool(connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    def _probe(self) -> None:
        if self._answering is not None:
            self._answering.probe()

    # requests that cannot be read

    def _read_target(self) -> PathKind | None:
        """Write the target as a plain path; return the kind of a hot path that was written in another way."""
        self.url, host = plain_target(self.url, self.parser.get_method())
        if host is not None:
            self.headers = [header for header in self.headers if header[0] != b"host"] + [(b"host", host)]
        return kind_of(self.url)

    def _end_with(self, error: GatewayError) -> None:
        """Answer what is being read with *error*, in its turn, and nothing after it."""
        if self._is_deaf:  # what cannot be read comes after the last request that is answered here
            return
        if self._is_reading_asgi:
            self._cut_asgi_short(error)
            return
        exchange = self._reading
        is_new = exchange is None
        if exchange is None:
            # Of a head that is not whole the target may be known, and with it the form that its client reads errors in.
            kind = (HOT_PATHS.get(self.url.partition(b"?")[0]) if self._is_in_head else None) or NO_KIND
            head = RequestHead(kind.path, (), self._edge.request_ids.new())
            exchange_of = TranslatedExchange if kind.through else Exchange
            exchange = exchange_of(self._gateway, self, self._on_over, head, kind)
        exchange.refuse(error)
        exchange.keep_alive = False
        self._listen_no_more()
        exchange.complete()
        if is_new:
            self._enqueue(exchange)

    def _cut_asgi_short(self, error: GatewayError) -> None:
        """End a request of the application whose body cannot be read on, and which may have been answered in part."""
        self._listen_no_more()
        if self._asgi is self.cycle and not self.cycle.response_started:
            lines = self._edge.default_lines.of(self.server_state.default_headers)
            lines += b"x-request-id: %b\r\n" % self._edge.request_ids.new()
            self.transport.write(refusal_of(error).framed(lines, CLOSE))
        self.transport.close()

    def _listen_no_more(self) -> None:
        """Read and throw away: a connection that is closed with bytes unread loses the answer that went out last."""
        self._is_deaf = True
        self._reading = None
        self._rest = b""
        self.flow.resume_reading()
