"""A gateway in a process of its own, outside of Ray, before engines that were entered by hand.

    python bench/one_gateway/process.py PORT HOME REGISTRY ENGINE_PORT...

It serves the tree that comes first on `PYTHONPATH`, so that two states of the code can be measured side by side. The
process prints `ready KEY` once its port answers, and ends with SIGTERM.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayProcess:
    """A running gateway."""

    pid: int
    port: int
    key: str

    def processor_s(self) -> dict[bool, float]:
        """Return the processor seconds since its start: True for the main thread, False for all others."""
        spent = {True: 0.0, False: 0.0}
        for thread in Path(f"/proc/{self.pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError):  # the thread has ended
                spent[thread.name == str(self.pid)] += int((thread / "schedstat").read_text().split()[0]) / 1e9
        return spent

    def threads_s(self) -> dict[str, float]:
        """Return the processor seconds by name of the threads; the kernel keeps 15 letters of a name."""
        spent: dict[str, float] = {}
        for thread in Path(f"/proc/{self.pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError):  # the thread has ended
                name = (thread / "comm").read_text().strip()
                spent[name] = spent.get(name, 0.0) + int((thread / "schedstat").read_text().split()[0]) / 1e9
        return spent

    def memory_mb(self) -> float:
        """Return the resident memory in MB."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1000


@contextlib.contextmanager
def gateway_process(
    home: Path, registry_url: str, engine_ports: Sequence[int], tree: Path = ROOT
) -> Iterator[GatewayProcess]:
    """Provide a gateway of this *tree* that ends with the block."""
    from bench.comparison.native import free_ports

    port = free_ports(1)[0]
    words = (str(port), str(home), registry_url, *map(str, engine_ports))
    variables = os.environ | {"PYTHONPATH": str(tree)}
    command = [sys.executable, __file__, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=variables) as process:
        assert process.stdout is not None
        told = process.stdout.readline().split()
        if told[:1] != ["ready"]:
            raise SystemExit("the gateway did not start")
        try:
            yield GatewayProcess(pid=process.pid, port=port, key=told[1])
        finally:
            process.terminate()


async def _serve(port: int, home: Path, registry_url: str, engine_ports: Sequence[int]) -> None:
    from bench.comparison.native import MODEL
    from gateway.app import build_gateway
    from gateway.settings import GatewaySettings
    from gateway.up.gateway_actor import QuietServer
    from gateway.up.http_server import server_config
    from gateway.up.listening import addresses_of, listen
    from gateway.up.logs import log_to
    from registry.database import open_registry
    from registry.keys import KeyDraft, Scope
    from registry.schema import migrate
    from registry.settings import RegistrySettings
    from registry.states import ReplicaState
    from registry.types import Base, Replica

    settings = RegistrySettings(url=registry_url, artifacts=home / "artifacts")
    migrate(settings.url)
    registry = open_registry(settings)
    registry.bases.enter(Base(name=MODEL, path="/x", digest="d", licence="x", created_at=1.0))
    for engine_port in engine_ports:
        registry.replicas.report(
            Replica(
                id=f"mock-{engine_port}",
                base=MODEL,
                engine="vllm",
                url=f"http://127.0.0.1:{engine_port}",
                state=ReplicaState.READY,
                capacity=8,
                slots=(),
                message="",
                started_at=time.time(),
                heartbeat_at=time.time() + 1e7,
                paths=("/v1/chat/completions",),
            )
        )
    key = registry.keys.create(KeyDraft(name="load", scopes=frozenset(Scope)), actor="bench").secret
    log_to(home, "gateway")
    knobs = GatewaySettings(port=port)
    server = QuietServer(server_config(build_gateway(knobs, registry, home)))
    listeners = [listen(address, port) for address in addresses_of(knobs.host)]
    serving = asyncio.create_task(server.serve(sockets=listeners))
    while not server.started:
        if serving.done():
            serving.result()
        await asyncio.sleep(0.01)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.leave)
    os.write(1, f"ready {key}\n".encode())
    await serving
    registry.close()


if __name__ == "__main__":
    import uvloop

    uvloop.run(_serve(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], [int(word) for word in sys.argv[4:]]))
