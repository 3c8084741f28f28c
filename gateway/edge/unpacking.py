"""Bodies of requests that are sent packed (`content-encoding`), unpacked within a limit. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

import brotli  # type: ignore[import-untyped]
import zstandard

from gateway.errors import BodyTooLarge, InvalidRequest, UnsupportedEncoding

_PIECE: Final = 1 << 16
_ZSTD_PIECE: Final = 256
"""Bytes of zstd that are unpacked at a time, as their result has no bound of its own: at most 8 MB for these."""
_ZSTD_WINDOW: Final = 1 << 23
"""Largest window that RFC 8878 asks of every decoder."""
_MOST_LAYERS: Final = 3


def unpack(body: bytes, encodings: str, limit: int) -> bytes:
    """Return *body* without its *encodings*, the header's value; it is never larger than *limit* bytes on the way.

    Raises `UnsupportedEncoding`, `InvalidRequest` for what is not packed so or not whole, and `BodyTooLarge`.
    """
    names = [name for part in encodings.lower().split(",") if (name := part.strip()) not in ("", "identity")]
    unknown = next((name for name in names if name not in UNPACKERS), None)
    if unknown is not None or len(names) > _MOST_LAYERS:
        asked = f"the content-encoding {unknown[:64]!r}" if unknown else f"more than {_MOST_LAYERS} encodings"
        taken = ", ".join(UNPACKERS)
        raise UnsupportedEncoding(
            f"{asked} cannot be unpacked here; send the body plain or in one of {taken}",
            headers={"accept-encoding": taken},
        )
    for name in reversed(names):
        body = _bounded(body, name, limit)
    return body


def _bounded(body: bytes, name: str, limit: int) -> bytes:
    parts, size = [], 0
    try:
        for part in UNPACKERS[name](body):
            size += len(part)
            if size > limit:
                raise BodyTooLarge(f"the body is larger than {limit} bytes when it is unpacked")
            parts.append(part)
    except (zlib.error, brotli.error, zstandard.ZstdError, EOFError) as exc:
        raise InvalidRequest(f"the body is not whole {name}, as the header content-encoding says") from exc
    return b"".join(parts)


def _gzip(body: bytes) -> Iterator[bytes]:
    while body:  # a file of gzip may have several members (RFC 1952, 2.2)
        unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)  # 16 stands for the gzip format
        yield from _inflated(unpacker, body)
        body = unpacker.unused_data


def _deflate(body: bytes) -> Iterator[bytes]:
    # The name stands for zlib's format (RFC 9110, 8.4.1.2); some clients send the bare stream.
    has_header = len(body) > 1 and body[0] & 15 == 8 and int.from_bytes(body[:2], "big") % 31 == 0
    return _inflated(zlib.decompressobj(wbits=zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS), body)


def _inflated(unpacker: zlib._Decompress, body: bytes) -> Iterator[bytes]:
    while not unpacker.eof:
        part = unpacker.decompress(body, _PIECE)
        body = unpacker.unconsumed_tail
        if not part and not body and not unpacker.eof:
            raise EOFError
        yield part


def _brotli(body: bytes) -> Iterator[bytes]:
    unpacker = brotli.Decompressor()
    part: bytes = unpacker.process(body, output_buffer_limit=_PIECE)
    while not unpacker.is_finished():
        if not part and unpacker.can_accept_more_data():
            raise EOFError
        yield part
        part = unpacker.process(b"", output_buffer_limit=_PIECE)
    yield part


def _zstd(body: bytes) -> Iterator[bytes]:
    rest = memoryview(body)
    while rest:  # frames may follow each other (RFC 8878, 3)
        unpacker = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj()
        while rest and not unpacker.eof:
            yield unpacker.decompress(rest[:_ZSTD_PIECE])
            rest = (
                rest[_ZSTD_PIECE:]
                if not unpacker.eof
                else rest[min(_ZSTD_PIECE, len(rest)) - len(unpacker.unused_data) :]
            )
        if not unpacker.eof:
            raise EOFError


UNPACKERS: Final[Mapping[str, Callable[[bytes], Iterator[bytes]]]] = MappingProxyType(
    {"gzip": _gzip, "x-gzip": _gzip, "deflate": _deflate, "br": _brotli, "zstd": _zstd}
)
"""Name of an encoding -> what unpacks it piece by piece."""
