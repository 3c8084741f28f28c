"""The gateway process of `lorry up`: inside an actor of Ray Serve, beside the threads of Ray."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from bench.comparison.lorry import Lorry
from bench.one_gateway.process import GatewayProcess

_ONE_GATEWAY: Final = "[gateway]\nreplicas = 1\n"


@contextlib.contextmanager
def gateway_under_ray(home: Path, engine_ports: Sequence[int]) -> Iterator[GatewayProcess]:
    """Provide the gateway of a `lorry up` that has one, which ends with the block; its registry is SQLite in *home*."""
    lorry = Lorry(home, engine_ports, _ONE_GATEWAY)
    try:
        (serving,) = lorry.serving()
        assert lorry.key is not None
        yield GatewayProcess(pid=serving.pid, port=lorry.port, key=lorry.key)
    finally:
        lorry.stop()
