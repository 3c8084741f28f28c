"""An export that is ended in the middle leaves nothing behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from gateway.objects.weights.exports import ExportedFile, ExportObject
from tests.gateway.cli.lorry_command import environment
from tests.loopback import LoopbackHandler, LoopbackServer
from tests.waiting import wait_for

AT_A_TERMINAL = "import signal; signal.signal(1, signal.SIG_DFL); from gateway.cli import main; main()"
"""The command where SIGHUP is not ignored, as tests that run under `nohup` have all that they start ignore it."""


@pytest.fixture
def endless() -> Iterator[LoopbackServer]:
    """A gateway whose archive of a model stops in the middle."""
    closed = Event()
    file = ExportedFile(path="model.safetensors", size_bytes=1 << 20, sha256="0" * 64)
    digest = f"sha256:{'0' * 64}"
    model = ExportObject(name="tiny", kind="base", digest=digest, base=None, files=[file], lineage=[])

    class Handler(LoopbackHandler):
        def do_GET(self) -> None:
            if self.path.startswith("/admin/exports/"):
                self.reply(200, model.model_dump_json().encode())
                return
            self.send_response(200)
            self.send_header("content-length", str(1 << 20))
            self.end_headers()
            self.wfile.write(bytes(512))
            closed.wait(60)

    server = LoopbackServer(Handler)
    yield server
    closed.set()
    server.close()


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_export_that_a_signal_ends_removes_what_it_had_fetched(
    endless: LoopbackServer, tmp_path: Path, number: signal.Signals
) -> None:
    words = [sys.executable, "-c", AT_A_TERMINAL, "export", "tiny", "--to", str(tmp_path / "out")]
    with subprocess.Popen(words, env=environment(endless.url)) as export:
        wait_for(lambda: list(tmp_path.glob(".lorry-export-*/model")) or export.poll() is not None)
        export.send_signal(number)
        assert export.wait(timeout=60) == 128 + number
    assert not list(tmp_path.iterdir())
