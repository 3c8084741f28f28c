"""A real S3 server for tests, SeaweedFS of its package, and a proxy before it that cuts connections."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Final

ACCESS_KEY: Final = "lorry-key"
SECRET_KEY: Final = "lorry-secret"
BUCKET: Final = "lorry"
_PORTS: Final = tuple(
    f"{part}.port{kind}" for part in ("master", "volume", "filer", "s3", "admin") for kind in ("", ".grpc")
)
STARTS_WITHIN_S: Final = 60.0


@contextmanager
def s3_server(folder: Path, host: str = "127.0.0.1") -> Iterator[str]:
    """Run a server at *host* with one bucket, and yield its address; it makes no bucket by itself."""
    identity = {"credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}], "actions": ["Admin"]}
    (folder / "s3.json").write_text(json.dumps({"identities": [{"name": "tests", **identity}]}))
    ports = dict(zip((*_PORTS, "webdav.port"), free_ports(len(_PORTS) + 1, host), strict=True))
    command = [str(Path(sys.prefix) / "bin" / "weed"), "mini", f"-dir={folder}", f"-ip={host}", f"-ip.bind={host}"]
    command += [f"-s3.config={folder / 's3.json'}", "-s3.autoCreateBucket=false", f"-bucket={BUCKET}"]
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"]
    command += [f"-{name}={port}" for name, port in ports.items()]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            command, cwd=folder, env=os.environ | {"HOME": str(folder)}, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        _wait_for(f"http://{host}:{ports['s3.port']}", server, folder / "log")
        yield f"http://{host}:{ports['s3.port']}"
    finally:
        server.kill()
        server.wait()


def credentials(endpoint: str) -> dict[str, str]:
    """The environment of a process that uses the server at *endpoint*."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_REGION": "us-east-1",
    }


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """Ports at *host* that nothing listens on."""
    found = [socket.create_server((host, 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in found]
    for each in found:
        each.close()
    return ports


def _wait_for(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the server takes an object: its port answers before the bucket is made."""
    import obstore
    from obstore.exceptions import BaseError
    from obstore.store import S3Store

    deadline = time.monotonic() + STARTS_WITHIN_S
    store = S3Store(
        BUCKET,
        endpoint=address,
        access_key_id=ACCESS_KEY,
        secret_access_key=SECRET_KEY,
        region="us-east-1",
        client_options={"allow_http": True},
        retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=5)},
    )
    while time.monotonic() < deadline and server.poll() is None:
        try:
            obstore.put(store, "ready", b"")
        except (BaseError, OSError):
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"SeaweedFS did not start:\n{log.read_text()[-3000:]}")


class CuttingProxy:
    """Passes connections on to a server, and cuts them all once *budget* bytes came back; None cuts none."""

    def __init__(self, server: str) -> None:
        host, _, port = server.removeprefix("http://").partition(":")
        self._server = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.budget: int | None = None
        self.passed = 0
        """Bytes that passed in either direction."""
        self._guard = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._server)
            except OSError:
                client.close()
                continue
            for source, target in ((client, server), (server, client)):
                threading.Thread(target=self._pass, args=(source, target), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while chunk := source.recv(1 << 16):
                with self._guard:
                    if self.budget is not None and self.passed + len(chunk) > self.budget:
                        break
                    self.passed += len(chunk)
                target.sendall(chunk)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
