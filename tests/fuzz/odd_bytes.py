"""Bytes for the raw edge that are not, or only nearly, the HTTP that a client library sends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import Final

CHAT: Final = b'{"model":"support","messages":[{"role":"user","content":"hi"}]}'
PATHS: Final = (
    *(b"/v1/chat/completions", b"/v1/models", b"/v1/feedback", b"/v1/files", b"/healthz", b"/metrics", b"/", b"*"),
    *(
        b"/v1//chat/completions",
        b"//v1/chat/completions",
        b"/v1/v1/models",
        b"/v1/chat/completions/",
        b"/v1/%63hat/completions",
    ),
    *(
        b"/v1/models/..%2f..%2fx",
        b"/v1/models/%00",
        b"/v1/models/%ff",
        b"/v1/models/\xff",
        b"/v1/models#a",
        b"/..",
        b"?",
        b"",
    ),
    *(
        b"http://127.0.0.1/v1/models",
        b"http://user:pw@[::1]:99999/v1/models",
        b"https://x/healthz",
        b"HTTP://",
        b"http:/v1",
    ),
    *(
        b"/v1/models?" + b"a" * 70_000,
        b"/" + b"a" * 70_000,
        b"/v1/models?%",
        b"127.0.0.1:443",
        b"localhost:0",
        b"/\0",
        b"/a b",
    ),
)
METHODS: Final = (
    *(b"POST", b"GET", b"POST", b"GET", b"PUT", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT", b"PATCH", b"PRI"),
    *(b"get", b"", b"G\xc3", b"BREW", b"M-SEARCH", b"P" * 9000),
)
VERSIONS: Final = (
    *(b"HTTP/1.1",) * 8,
    b"HTTP/1.0",
    b"HTTP/2.0",
    b"HTTP/0.9",
    b"HTTP/1.9",
    b"http/1.1",
    b"",
    b"HTTP/1.1 x",
    b"HTTP/" + b"1" * 99,
)
LINES: Final = (
    *(
        b"content-length: 5",
        b"content-length: -1",
        b"content-length: +5",
        b"content-length: 0x5",
        b"content-length: 5, 5",
    ),
    *(
        b"content-length: " + b"9" * 30,
        b"content-length: 18446744073709551616",
        b"content-length: 5\r\ncontent-length: 6",
    ),
    *(
        b"content-length: 2000000",
        b"content-length:",
        b"content-length: \xb2",
        b"content-length: 1e3",
        b"content-length: 63",
    ),
    *(
        b"transfer-encoding: chunked",
        b"transfer-encoding: gzip, chunked",
        b"transfer-encoding: identity",
        b"transfer-encoding:",
    ),
    *(b"transfer-encoding: chunked\r\ncontent-length: 5", b"transfer-encoding: chunked\r\ntransfer-encoding: chunked"),
    *(
        b"transfer-encoding: xchunked",
        b"Transfer-Encoding : chunked",
        b" folded: yes",
        b"\tx",
        b"x",
        b":",
        b": x",
        b"\xff: \xff",
    ),
    *(
        b"upgrade: h2c\r\nconnection: upgrade, http2-settings\r\nhttp2-settings: AAMAAABkAARAAAAAAAIAAAAA",
        b"upgrade: websocket",
    ),
    *(
        b"upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-key: AAAA\r\nsec-websocket-version: 13",
        b"upgrade:",
    ),
    *(
        b"expect: 100-continue",
        b"expect: 200-ok",
        b"connection: close",
        b"connection: keep-alive, x",
        b"connection: \xff",
    ),
    *(b"x: " + b"a" * 9000, b"x: " + b"a" * 70_000, b"x: a\0b", b"x: a\rb", b"x: a\nb", b"a" * 70_000 + b": x"),
    *(
        b"\r\n".join(b"x-%d: y" % number for number in range(3000)),
        b"content-encoding: gzip",
        b"trailer: x",
        b"te: trailers",
    ),
    *(
        b"authorization: Bearer " + b"x" * 60_000,
        b"authorization: \xff",
        b"host: a\r\nhost: b",
        b"host:",
        b"host: a b",
        b"host: [::1",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RawTurn:
    """Pieces that are sent one by one on a connection of their own."""

    pieces: Sequence[bytes]
    is_half_closed: bool
    """The client ends its side after the last piece."""
    reads_nothing: bool = False
    """The client closes the connection without reading."""


def raw_turn(rng: Random, credentials: Sequence[str]) -> RawTurn:
    """Return what an odd client sends."""
    sent = rng.choice(KINDS)(rng, credentials)
    pieces = _in_pieces(sent, rng) if rng.random() < 0.4 else [sent]
    return RawTurn(pieces=pieces, is_half_closed=rng.random() < 0.7, reads_nothing=rng.random() < 0.08)


def _lines(rng: Random, credentials: Sequence[str], *more: bytes) -> bytes:
    lines = [b"host: 127.0.0.1"] if rng.random() < 0.9 else []
    if credentials and rng.random() < 0.9:
        lines.append(b"authorization: Bearer " + credentials[0].encode())
    lines += [*more, *rng.sample(LINES, rng.choice((0, 0, 1, 1, 2)))]
    rng.shuffle(lines)
    return b"".join(line + rng.choice((b"\r\n",) * 20 + (b"\n", b"\r", b"\r\r\n")) for line in lines) + b"\r\n"


def _head(rng: Random, credentials: Sequence[str]) -> bytes:
    """A request line and a head, any part of which may be broken; maybe with a body."""
    between = rng.choice((b" ",) * 20 + (b"  ", b"\t", b""))
    line = between.join((rng.choice(METHODS), rng.choice(PATHS), rng.choice(VERSIONS)))
    return line + b"\r\n" + _lines(rng, credentials) + rng.choice((b"", CHAT, b"hello", b"5\r\nhello\r\n0\r\n\r\n"))


def _chat(rng: Random, credentials: Sequence[str]) -> bytes:
    """A good chat with odd header lines."""
    lines = _lines(rng, credentials, b"content-type: application/json", b"content-length: %d" % len(CHAT))
    return b"POST /v1/chat/completions HTTP/1.1\r\n" + lines + CHAT


def _chunks(rng: Random, credentials: Sequence[str]) -> bytes:
    """A chunked body, whose framing is broken."""
    path = rng.choice((b"/v1/chat/completions", b"/v1/feedback", b"/v1/files", b"/admin/adapters/support/revisions"))
    size = rng.choice(
        (b"%x" % len(CHAT),) * 4
        + (b"%X;ext=1" % len(CHAT), b"-1", b"0x5", b"f" * 16, b"f" * 40, b"", b"g", b"0", b"7fffffff", b"5 ", b"+5")
    )
    end = rng.choice(
        (b"0\r\n\r\n",) * 5
        + (b"0\r\nx: y\r\n\r\n", b"0\r\n" + b"x: y\r\n" * 9000 + b"\r\n", b"", b"0\n\n", b"00000\r\n\r\n")
    )
    times = rng.choice((1, 1, 1, 400))
    body = (
        size
        + rng.choice((b"\r\n",) * 8 + (b"\n", b";" + b"a" * 70_000 + b"\r\n"))
        + CHAT
        + rng.choice((b"\r\n",) * 8 + (b"", b"\n", b"xx"))
    ) * times + end
    return b"POST " + path + b" HTTP/1.1\r\n" + _lines(rng, credentials, b"transfer-encoding: chunked") + body


def _pipeline(rng: Random, credentials: Sequence[str]) -> bytes:
    """Many requests at once."""
    return b"".join(rng.choice((_chat, _chat, _get, _head))(rng, credentials) for _ in range(rng.choice((2, 5, 30))))


def _get(rng: Random, credentials: Sequence[str]) -> bytes:
    return b"GET " + rng.choice(PATHS) + b" HTTP/1.1\r\n" + _lines(rng, credentials)


def _cut(rng: Random, credentials: Sequence[str]) -> bytes:
    """A request that ends early."""
    whole = rng.choice((_chat, _chunks))(rng, credentials)
    return whole[: rng.randrange(len(whole))]


def _flipped(rng: Random, credentials: Sequence[str]) -> bytes:
    """A chat with bytes of it replaced."""
    sent = bytearray(_chat(rng, credentials))
    for _ in range(rng.choice((1, 2, 8))):
        sent[rng.randrange(len(sent))] = rng.randrange(256)
    return bytes(sent)


def _noise(rng: Random, _: Sequence[str]) -> bytes:
    """No HTTP at all."""
    tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
    return rng.choice(
        (
            b"",
            b"\r\n" * 9000,
            b"\0" * 300,
            tls + rng.randbytes(300),
            rng.randbytes(2000),
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"GET /\r\n",
            b"\n" * 80_000,
        )
    )


KINDS: Final[Sequence[Callable[[Random, Sequence[str]], bytes]]] = (
    _head,
    _head,
    _chat,
    _chunks,
    _pipeline,
    _cut,
    _flipped,
    _noise,
)


def _in_pieces(sent: bytes, rng: Random) -> list[bytes]:
    places = sorted({0, *(rng.randrange(len(sent) + 1) for _ in range(rng.choice((1, 3)))), len(sent)})
    return [sent[begin:end] for begin, end in pairwise(places)]
