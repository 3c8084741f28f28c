"""A packed body is read as the plain one, never above the limit, and what is not whole is refused by name."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable

import brotli  # type: ignore[import-untyped]
import pytest
import zstandard

from gateway.edge.unpacking import unpack
from gateway.errors import BodyTooLarge, InvalidRequest, UnsupportedEncoding
from gateway.settings import GatewaySettings
from registry.database import Registry
from tests.gateway.served import ServedGateway

PLAIN = json.dumps({"model": "no-such", "messages": ["x" * 3] * 30_000}).encode()
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": lambda plain: gzip.compress(plain[:9]) + gzip.compress(plain[9:]),
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": lambda plain: zstandard.compress(plain[:9]) + zstandard.compress(plain[9:]),
}


@pytest.mark.parametrize("name", PACKERS)
def test_a_packed_body_is_the_plain_one(name: str) -> None:
    assert unpack(PACKERS[name](PLAIN), name.upper(), len(PLAIN)) == PLAIN


def test_a_bare_deflate_stream_and_several_encodings_are_unpacked() -> None:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    assert unpack(packer.compress(PLAIN) + packer.flush(), "deflate", len(PLAIN)) == PLAIN
    assert unpack(brotli.compress(gzip.compress(PLAIN)), "gzip, identity, br", len(PLAIN)) == PLAIN


@pytest.mark.parametrize("name", PACKERS)
def test_a_bomb_is_refused_at_the_limit(name: str) -> None:
    with pytest.raises(BodyTooLarge, match="larger than 1000000 bytes"):
        unpack(PACKERS[name](bytes(8_000_000)), name, 1_000_000)


@pytest.mark.parametrize("name", PACKERS)
def test_what_is_cut_or_not_packed_is_refused_by_name(name: str) -> None:
    for body in (PACKERS[name](PLAIN)[:-3], b"{}", b"{" * 500):
        with pytest.raises(InvalidRequest, match=f"not whole {name}"):
            unpack(body, name, len(PLAIN))


@pytest.mark.parametrize("encodings", ["lzma", "gzip, compress", "gzip, gzip, gzip, gzip"])
def test_other_encodings_are_refused_with_those_that_are_known(encodings: str) -> None:
    with pytest.raises(UnsupportedEncoding, match="gzip, x-gzip, deflate, br, zstd"):
        unpack(b"", encodings, 10)


def test_packed_bodies_are_read_on_every_path(sqlite_registry: Registry) -> None:
    knobs = GatewaySettings(max_body_bytes=300_000)
    with ServedGateway(knobs, sqlite_registry) as served:
        for path, plain, status, code in (
            ("/v1/chat/completions", PLAIN, 404, "model_not_found"),
            ("/v1/chat/completions", bytes(400_000), 413, "body_too_large"),
            ("/v1/feedback", b'{"completion_id": "none", "score": 2}', 400, "invalid_request"),
            ("/v1/feedback", bytes(400_000), 413, "body_too_large"),
        ):
            for name, pack in PACKERS.items():
                headers = {"content-type": "application/json", "content-encoding": name}
                told = served.client.post(path, content=pack(plain), headers=headers)
                assert (told.status_code, told.json()["error"]["code"]) == (status, code)
        for path in ("/v1/chat/completions", "/v1/feedback"):
            told = served.client.post(path, content=b"{}", headers={"content-encoding": "lzw"})
            assert (told.status_code, told.json()["error"]["code"]) == (415, "unsupported_encoding")
            assert "zstd" in told.headers["accept-encoding"]
