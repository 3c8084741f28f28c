"""A PostgreSQL server of our own, from the programs that the system has; it dies with us."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import psycopg
import sqlalchemy as sa

from engines.bound_child import die_with_parent

START_TIMEOUT_S: Final = 120.0


class NoPostgres(Exception):
    """PostgreSQL is not installed here, or its server does not start."""


class PostgresServer:
    """A cluster in *home*, whose server can be started and stopped again and again."""

    def __init__(self, home: Path, host: str = "127.0.0.1", clients: str = "127.0.0.1/32") -> None:
        """Make the cluster, at *host* for everybody whose address is in *clients*; `NoPostgres` without programs."""
        self._host = host
        folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
        if not folders:
            raise NoPostgres("no PostgreSQL server in /usr/lib/postgresql: `apt-get install postgresql`")
        self._binaries, self._home = folders[-1], home
        self._account: dict[str, Any] = {}
        self._server: subprocess.Popen[bytes] | None = None
        if os.geteuid() == 0:  # the server refuses to run as root
            postgres = pwd.getpwnam("postgres")
            os.chown(home, postgres.pw_uid, postgres.pw_gid)
            self._account = {"user": postgres.pw_uid, "group": postgres.pw_gid, "extra_groups": []}
        words = ["-D", f"{home / 'cluster'}", "-U", "lorry", "-A", "trust", "-E", "UTF8", "--no-sync"]
        initdb = [f"{self._binaries}/initdb", *words]
        subprocess.run(initdb, check=True, cwd=home, capture_output=True, **self._account)
        with (home / "cluster" / "pg_hba.conf").open("a") as lines:
            lines.write(f"host all all {clients} trust\n")
        with socket.create_server((host, 0)) as probe:
            self._port = probe.getsockname()[1]

    @property
    def url(self) -> sa.URL:
        """The URL of a database from which others can be created."""
        return sa.URL.create(
            "postgresql+psycopg", username="lorry", host=self._host, port=self._port, database="postgres"
        )

    def start(self) -> None:
        """Start the server and return when it answers; `NoPostgres` with its log if it does not."""
        settings = {
            "listen_addresses": self._host,
            "port": self._port,
            "unix_socket_directories": "",
            "fsync": "off",  # a commit survives the end of the server, which is all that tests do to it
            "full_page_writes": "off",
            "max_connections": 200,
        }
        words = [f"--{name}={value}" for name, value in settings.items()]
        with (self._home / "log").open("wb") as output:
            self._server = subprocess.Popen(
                [f"{self._binaries}/postgres", "-D", f"{self._home / 'cluster'}", *words],
                cwd=self._home,
                stdout=output,
                stderr=output,
                preexec_fn=partial(die_with_parent, os.getpid(), signal.SIGQUIT),  # noqa: PLW1509
                **self._account,
            )
        self._wait(self._server)

    def stop(self) -> None:
        """Drop all connections and end the server, which can be started again."""
        if self._server is not None:
            self._server.send_signal(signal.SIGQUIT)
            self._server.wait(timeout=START_TIMEOUT_S)
            self._server = None

    def take_changes(self, *, allowed: bool) -> None:
        """Make the server read-only, or let it take changes again, for all connections; returns when it does so."""
        value = "off" if allowed else "on"
        with psycopg.connect(host=self._host, port=self._port, user="lorry", dbname="postgres", autocommit=True) as own:
            own.execute("SET default_transaction_read_only = off")
            own.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
            own.execute("SELECT pg_reload_conf()")
        while self._setting("default_transaction_read_only") != value:
            time.sleep(0.05)

    def _setting(self, name: str) -> str:
        with self._connect() as own:
            found = own.execute(f"SHOW {name}").fetchone()
        return "" if found is None else str(found[0])

    def _connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(host=self._host, port=self._port, user="lorry", dbname="postgres", autocommit=True)

    def _wait(self, server: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                self._connect().close()
            except psycopg.OperationalError as exc:
                if server.poll() is not None or time.monotonic() > deadline:
                    raise NoPostgres(f"PostgreSQL does not start: {exc}\n{(self._home / 'log').read_text()}") from exc
                time.sleep(0.05)
            else:
                return


@contextmanager
def postgres_server(host: str = "127.0.0.1", clients: str = "127.0.0.1/32") -> Iterator[PostgresServer]:
    """Run a server inside the block; `NoPostgres` where that is not possible."""
    home = Path(tempfile.mkdtemp(prefix="lorry-postgres-"))
    server: PostgresServer | None = None
    try:
        server = PostgresServer(home, host, clients)
        server.start()
        yield server
    finally:
        if server is not None:
            server.stop()
        shutil.rmtree(home)
