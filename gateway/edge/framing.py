"""What a request is refused for by its head alone, before its body is read."""

from __future__ import annotations

from typing import Final

from gateway.edge.head import Headers, RequestHead
from gateway.edge.turn import Turn
from gateway.errors import GatewayError, HeadTooLarge, MalformedRequest
from registry.errors import RegistryError

LARGEST_HEAD: Final = 64 * 1024


def judge(turn: Turn, head: RequestHead) -> None:
    """Refuse the turn what is not to be read; a request that others may read otherwise is its connection's last."""
    encoding, length = head.headers.get(b"transfer-encoding"), head.headers.get(b"content-length")
    if encoding is not None and (length is not None or encoding.strip().lower() != b"chunked"):
        turn.refuse(MalformedRequest("a body is sent with its content-length or chunked, and not in another way"))
        turn.keep_alive = False
    if b"upgrade" in head.headers:  # its body would be taken for the other protocol
        turn.refuse(MalformedRequest("HTTP/1.1 is all that is spoken here: leave the header upgrade out"))
        turn.keep_alive = False
    try:
        turn.exchange.check_caller()
    except (GatewayError, RegistryError) as exc:
        turn.refuse(exc)
    if length is not None:
        turn.expect(int(length))


def is_too_large(url: bytes, headers: Headers) -> bool:
    """The head is larger than any that is taken."""
    return len(url) + sum([len(name) + len(value) for name, value in headers]) > LARGEST_HEAD


def head_too_large() -> HeadTooLarge:
    """The refusal of such a head."""
    return HeadTooLarge(f"the head of the request is larger than {LARGEST_HEAD} bytes")
