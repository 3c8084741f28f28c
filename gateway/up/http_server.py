"""The gateway's HTTP server: the hot path and the application behind one port."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import cast

import uvicorn

from gateway.app import build_app
from gateway.edge.parts import Gateway
from gateway.edge.protocol import EdgeProtocol


def server_config(gateway: Gateway) -> uvicorn.Config:
    """How uvicorn serves *gateway*; nothing runs yet."""
    knobs = gateway.settings
    return uvicorn.Config(
        build_app(gateway),
        http=cast(type[asyncio.Protocol], partial(EdgeProtocol, gateway)),
        loop="uvloop",
        ws="none",  # offers of other protocols are ignored
        port=knobs.port,
        access_log=False,
        log_config=None,  # uvicorn's would close the handlers of Ray, which then cannot adopt this replica again
        log_level="warning",
        lifespan="on",
        timeout_keep_alive=knobs.keep_alive_s,
        timeout_graceful_shutdown=int(knobs.drain_timeout_s),
    )
