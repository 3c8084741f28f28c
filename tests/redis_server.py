"""A Redis server of the tests, which stores nothing on disk."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from functools import partial

import pytest
import redis

from engines.bound_child import die_with_parent
from tests.waiting import wait_for


class RedisServer:
    """A Redis that listens on a free port of this machine and dies with the tests."""

    def __init__(self) -> None:
        binary = os.environ.get("LORRY_TEST_REDIS") or shutil.which("redis-server")
        if binary is None:
            pytest.fail(
                "no redis-server: `apt-get install redis-server`, or set LORRY_TEST_REDIS to its path", pytrace=False
            )
        self._binary = binary
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self._port = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self._port}/0"
        self.start()

    def start(self) -> None:
        """Start the server and return when it answers."""
        settings = {"port": self._port, "bind": "127.0.0.1", "save": "", "appendonly": "no", "loglevel": "warning"}
        self.process = subprocess.Popen(
            [self._binary, *(part for name, value in settings.items() for part in (f"--{name}", str(value)))],
            stdout=subprocess.DEVNULL,
            preexec_fn=partial(die_with_parent, os.getpid(), signal.SIGKILL),  # noqa: PLW1509
        )
        wait_for(self._answers)

    def stop(self) -> None:
        """Kill the server; all that it held is lost."""
        self.process.kill()
        self.process.wait(timeout=60)

    def _answers(self) -> bool:
        assert self.process.poll() is None, "Redis has ended"
        try:
            with redis.Redis.from_url(self.url) as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False
