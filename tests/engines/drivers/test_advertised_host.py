"""Requests reach a server by the host that it advertises, while it listens on another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from engines.address import authorization_of, shown_address
from engines.catalog import build_engine
from engines.settings import EngineSettings

BOUND, ADVERTISED = "127.0.0.3", "127.0.0.4"


@asynccontextmanager
async def forwarded(port: int) -> AsyncIterator[None]:
    """Forward connections from the advertised host to the bound one, as the network of a cluster may."""

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while chunk := await source.read(65536):
            sink.write(chunk)
            await sink.drain()
        sink.close()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(BOUND, port)
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))

    async with await asyncio.start_server(forward, ADVERTISED, port):
        yield


@pytest.mark.long
@pytest.mark.anyio
async def test_an_engine_is_reached_by_the_host_that_it_advertises(model_folder: Path, tmp_path: Path) -> None:
    settings = EngineSettings(
        base_path=model_folder,
        base_name="base",
        log_path=tmp_path / "engine.log",
        host=BOUND,
        advertised_host=ADVERTISED,
        max_context=64,
    )
    engine = build_engine(settings)
    await engine.start()  # ready although nothing forwards yet: its health is that of the process
    try:
        url = engine.base_url
        port = urlsplit(url).port
        assert shown_address(url) == f"http://{ADVERTISED}:{port}"
        assert port is not None
        http = httpx2.AsyncClient(
            base_url=shown_address(url), headers=authorization_of(url), timeout=60, trust_env=False
        )
        async with forwarded(port), http:
            body = {"model": "base", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
            assert (await http.post("/v1/chat/completions", json=body)).status_code == 200
    finally:
        await engine.stop(5.0)
