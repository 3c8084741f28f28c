"""nginx or Caddy with our file from `deploy/proxies`, on a free port of this machine; it dies with the tests."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import subprocess
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from engines.bound_child import die_with_parent
from tests.pages import ROOT
from tests.waiting import wait_for

FILES: Final = ROOT / "deploy" / "proxies"
NAME: Final = "lorry.example.com"


class Proxy:
    """A proxy with TLS before *upstream*, `host:port`; `kind` is `nginx` or `caddy`."""

    def __init__(self, kind: str, upstream: int, folder: Path) -> None:
        self._binary = shutil.which(kind) or ""
        if not self._binary:
            pytest.fail(f"no {kind}: `make proxies`", pytrace=False)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self._port = probe.getsockname()[1]
        self._folder, self._upstream = folder, upstream
        self._make_certificate()
        self.url = f"https://localhost:{self._port}"
        self.trust = ssl.create_default_context(cafile=str(folder / "fullchain.pem"))
        command = {"nginx": self._nginx, "caddy": self._caddy}[kind]()
        self._log = (folder / "log").open("wb")
        self._process = subprocess.Popen(
            command,
            stdout=self._log,
            stderr=self._log,
            env={"PATH": os.environ["PATH"], "HOME": str(folder), "XDG_DATA_HOME": str(folder)},
            preexec_fn=partial(die_with_parent, os.getpid(), signal.SIGTERM),  # noqa: PLW1509
        )
        wait_for(self._listens)

    def connect(self) -> ssl.SSLSocket:
        """Return a connection with TLS."""
        plain = socket.create_connection(("127.0.0.1", self._port), timeout=60)
        return self.trust.wrap_socket(plain, server_hostname="localhost")

    def close(self) -> None:
        """End the proxy."""
        self._process.terminate()
        self._process.wait(timeout=60)
        self._log.close()

    def _make_certificate(self) -> None:
        words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
        paths = ["-keyout", str(self._folder / "privkey.pem"), "-out", str(self._folder / "fullchain.pem")]
        names = ["-addext", "subjectAltName=DNS:localhost"]
        subprocess.run(["openssl", *words.split(), *names, *paths], check=True, capture_output=True)

    def _nginx(self) -> list[str]:
        site = self._own("nginx.conf", ("listen 443", f"listen 127.0.0.1:{self._port}"), ("/etc/ssl/lorry", "."))
        places = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        temporary = "".join(f"{place}_temp_path {self._folder}/{place};" for place in places)
        user = "user root;" if os.geteuid() == 0 else ""
        (self._folder / "main.conf").write_text(
            f"{user} daemon off; pid {self._folder}/pid; error_log stderr; events {{}}"
            f"http {{ access_log off; {temporary} include {site}; }}"
        )
        return [self._binary, "-p", str(self._folder), "-c", str(self._folder / "main.conf")]

    def _caddy(self) -> list[str]:
        certificate = f"tls {self._folder}/fullchain.pem {self._folder}/privkey.pem"
        site = self._own("Caddyfile", (f"{NAME} {{", f"https://{NAME}:{self._port} {{\n\t{certificate}"))
        site.write_text("{\n\tadmin off\n\tskip_install_trust\n\tauto_https off\n}\n" + site.read_text())
        return [self._binary, "run", "--adapter", "caddyfile", "--config", str(site)]

    def _own(self, name: str, *changes: tuple[str, str]) -> Path:
        """Write the file with the name, the ports and the certificate of this test, each of which it must have."""
        text = (FILES / name).read_text()
        for old, new in (*changes, (NAME, "localhost"), ("127.0.0.1:8080", f"127.0.0.1:{self._upstream}")):
            assert old in text, f"{name} has no {old!r}"
            text = text.replace(old, new)
        made = self._folder / name
        made.write_text(text)
        return made

    def _listens(self) -> bool:
        assert self._process.poll() is None, (self._folder / "log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0
