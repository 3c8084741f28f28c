"""`lorry up` as a person starts it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import openai
import psutil

STOP_TIMEOUT_S = 60.0
LORRY = [sys.executable, "-c", "from gateway.cli import main; main()"]


class Up:
    """A running `lorry up`, with *settings* as its TOML file."""

    def __init__(self, home: Path, port: int, settings: str = "") -> None:
        self.home = home
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.api_key = "none"
        self._clients: list[openai.OpenAI] = []
        config = home / "lorry.toml"
        config.write_text(_trains_beside_others(settings))
        environment = os.environ | {"LORRY_HOME": str(home), "LORRY_CONFIG": str(config)}
        command = [*LORRY, "up", "--port", str(port)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert self.process.stdout is not None
        self.ready_line = self.process.stdout.readline()
        self.tree = psutil.Process(self.process.pid).children(recursive=True)

    def client(self) -> openai.OpenAI:
        """Return an OpenAI client that retries nothing; it is closed with this object, not when it is forgotten."""
        made = openai.OpenAI(base_url=f"{self.url}/v1", api_key=self.api_key, max_retries=0, timeout=120.0)
        self._clients.append(made)
        return made

    def close_clients(self) -> None:
        """Close every client: the garbage collector may meet its sockets before it, and warn of them."""
        while self._clients:
            self._clients.pop().close()

    def addressed(self, text: str) -> str:
        """Return *text* of a page with this address in place of the usual one."""
        return text.replace("localhost:8080", f"127.0.0.1:{self.port}").replace(
            "127.0.0.1:8080", f"127.0.0.1:{self.port}"
        )

    def listener(self, url: str) -> psutil.Process:
        """Return the process of this `lorry up` that listens on the port of *url*."""
        port = int(url.rpartition(":")[2])

        def listens(process: psutil.Process) -> bool:
            with suppress(psutil.Error):  # some live for a moment
                found = process.net_connections()
                return any(at.laddr.port == port and at.status == psutil.CONN_LISTEN for at in found)
            return False

        tree: list[psutil.Process] = psutil.Process(self.process.pid).children(recursive=True)
        return next(process for process in tree if listens(process))

    def lorry(self, *words: str, code: int = 0) -> str:
        """Run a `lorry` command that must exit with *code*; return what it prints, with `--json` the document alone."""
        environment = os.environ | {"LORRY_URL": self.url, "LORRY_API_KEY": self.api_key, "COLUMNS": "200"}
        told = subprocess.run(
            [*LORRY, *words], capture_output=True, text=True, env=environment, check=False, timeout=900
        )
        assert told.returncode == code, told.stdout + told.stderr
        return told.stdout if "--json" in words else told.stdout + told.stderr

    def stop(self, number: signal.Signals) -> int:
        """Signal it, wait until it and everything that it started has ended, and return its exit code."""
        self.tree += psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(number)
        code = self.process.wait(timeout=STOP_TIMEOUT_S)
        self.close_clients()
        assert self.process.stdout is not None
        self.process.stdout.close()
        _, alive = psutil.wait_procs(self.tree, timeout=60)
        assert alive == []
        return code


def _trains_beside_others(settings: str) -> str:
    """Return *settings* with which training goes on while other programs keep all processors of the machine busy."""
    table = "[trainer]\nnice_beside_engines = 0\n"
    return settings.replace("[trainer]\n", table, 1) if "[trainer]\n" in settings else f"{settings}\n{table}"
