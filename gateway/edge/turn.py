"""The turn of a request on its client's connection: its body as it comes, its answer after all earlier ones."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.edge.http_message import Headers, RequestHead
from gateway.edge.parts import Gateway
from gateway.errors import BodyTooLarge, GatewayError, HeadTooLarge, MalformedRequest
from gateway.routing.paths import PathKind
from registry.errors import RegistryError

LARGEST_HEAD: Final = 64 * 1024
Step = Callable[[], bool]
"""Returns True if a replica may be asked now, False if something is waited for; raises to refuse the request."""
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_PROBE: Final = b"HTTP/1.1 "


def refuse(error: BaseException) -> bool:
    """Raise the error: the `Step` of a request that cannot go on."""
    raise error


class _NoTask:
    """Stands where uvicorn's own requests have an event that wakes their task."""

    def set(self) -> None:
        """Wake nothing."""


class Turn(ABC):
    """A request's turn, of which `Exchange` is the answering part; to uvicorn it is what its own requests are.

    The connection calls `start` when all earlier answers are whole and `complete` when the body is. The later of the
    two begins the answer, so pipelined requests are answered in their order however their bodies come.
    """

    message_event: Final = _NoTask()
    keep_alive = True
    takes_chunks = True
    """The client knows chunked bodies (HTTP/1.1)."""
    response_complete = False
    disconnected = False
    expects_continue = False
    size = 0
    """Bytes of the body, as far as they have come."""
    sent_ahead = 0
    """Bytes of the answer's first line that were sent before it, by `probe`."""
    _is_its_turn = False
    _is_whole = False
    _refusal: Exception | None = None

    def __init__(
        self,
        gateway: Gateway,
        connection: HttpToolsProtocol,
        on_over: Callable[[], None],
        head: RequestHead,
        kind: PathKind,
    ) -> None:
        """*on_over* is called when the answer is whole and another request may follow on the connection."""
        self.head = head
        self.kind = kind
        self.write: Callable[[bytes], None] = connection.transport.write
        self._gateway = gateway
        self._connection = connection
        self._on_over = on_over
        self._pieces: list[bytes] = []
        settings = gateway.settings
        self._most_bytes = settings.max_form_bytes if kind.is_multipart else settings.max_body_bytes

    # what the answering part does

    @property
    @abstractmethod
    def has_begun(self) -> bool:
        """Whether bytes of the answer were written."""

    @abstractmethod
    def check_caller(self) -> None:
        """Return if the body may be read; else raise `GatewayError` or `RegistryError`."""

    @abstractmethod
    def begin(self, raw: bytes) -> None:
        """Answer the request, whose body is *raw*."""

    @abstractmethod
    def advance(self, step: Step) -> None:
        """Take the next step towards an engine's answer, once something that was waited for has come."""

    @abstractmethod
    def fail(self, error: Exception) -> None:
        """Answer with the error; nothing of another answer was written."""

    @abstractmethod
    def answered(self) -> None:
        """End the turn after the last byte of an engine's answer."""

    @abstractmethod
    def broke(self) -> None:
        """End the turn after an engine failed when the client had bytes of its answer."""

    # called by the connection

    def judge_head(self) -> None:
        """Refuse what is not to be read; a request that others may read otherwise is its connection's last."""
        headers = self.head.headers
        encoding, length = headers.get(b"transfer-encoding"), headers.get(b"content-length")
        # two lengths that contradict each other are how a request is smuggled past a proxy
        if encoding is not None and (length is not None or encoding.strip().lower() != b"chunked"):
            self.refuse(MalformedRequest("a body is sent with its content-length or chunked, and not in another way"))
            self.keep_alive = False
        try:
            self.check_caller()
        except (GatewayError, RegistryError) as exc:
            self.refuse(exc)
        if length is not None and int(length) > self._most_bytes:
            self.refuse(self._too_large())

    def add_body(self, data: bytes) -> None:
        """Keep the next part of the body."""
        self.size += len(data)
        if self._refusal is not None:
            return
        self._pieces.append(data)
        if self.size > self._most_bytes:
            self.refuse(self._too_large())

    def complete(self) -> None:
        """Note that the body is whole."""
        self._is_whole = True
        if self._is_its_turn:
            self._answer()

    def start(self) -> None:
        """Note that all earlier answers are whole."""
        self._is_its_turn = True
        if self._is_whole:
            self._answer()
        # A refused request gets its final status instead, so that its body need not be sent (RFC 9110, 10.1.1).
        elif self.expects_continue and self._refusal is None:
            self.write(_CONTINUE)

    def probe(self) -> None:
        """Send the bytes that begin every answer, once, if none of it was sent.

        A client that closed its connection replies with a reset. A client that only sends no more reads them as what
        they are: the end of sending looks the same in both cases.
        """
        if not (self.sent_ahead or self.has_begun or self.response_complete):
            self.write(_PROBE)
            self.sent_ahead = len(_PROBE)

    def refuse(self, error: Exception) -> None:
        """Have the request answered with the error when its turn comes; the first error counts."""
        if self._refusal is None:
            self._refusal = error
            self._pieces.clear()

    @property
    def is_being_read(self) -> bool:
        """The turn has come, and the client has not sent all of the request."""
        return self._is_its_turn and not self._is_whole

    @property
    def is_refused_early(self) -> bool:
        """The request is refused, so that its client can be answered now and not after the rest of its body."""
        return self._refusal is not None and self.is_being_read

    # called by the answering part

    def head_lines(self) -> bytes:
        """Return the header lines that every answer carries: `date`, and those for pages of other origins."""
        edge = self._gateway.edge
        lines = edge.default_lines.of(self._connection.server_state.default_headers)
        return lines if edge.origins.are_none else lines + edge.origins.lines_for(self.head.headers.get(b"origin"))

    def keeps_alive(self) -> bool:
        """Whether another request may follow on this connection, decided when the answer's head is written."""
        if self._gateway.edge.is_draining:
            self.keep_alive = False
        return self.keep_alive

    def done(self) -> None:
        """Pass the turn on, as the answer is whole."""
        self.response_complete = True
        self._on_over()

    def cut(self) -> None:
        """End the connection after what was written, as the answer cannot be made whole."""
        self.response_complete = True
        self._connection.transport.close()

    def abort(self) -> None:
        """End the connection and throw away what the client did not read."""
        self.response_complete = True
        self._connection.transport.abort()

    def _answer(self) -> None:
        if self.response_complete:
            return
        if self._refusal is not None:
            self.fail(self._refusal)
            return
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces = []
        self.begin(body)

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"the body is larger than {self._most_bytes} bytes")


def is_too_large(url: bytes, headers: Headers) -> bool:
    """Whether the head is larger than any that is accepted."""
    return len(url) + sum([len(name) + len(value) for name, value in headers]) > LARGEST_HEAD


def head_too_large() -> HeadTooLarge:
    """Return the refusal of such a head."""
    return HeadTooLarge(f"the head of the request is larger than {LARGEST_HEAD} bytes")
