"""A start of LMDeploy whose two processes miss each other is repeated; a script stands in for its interpreter."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from engines.catalog import build_engine
from engines.errors import EngineStartFailed
from engines.protocol import Engine
from engines.settings import EngineSettings
from tests.engines.drivers.test_command_lines import CONFIG

SCRIPT = """#!{python}
import http.server, pathlib, sys
starts = pathlib.Path({counter!r})
count = len(starts.read_text()) if starts.exists() else 0
starts.write_text("x" * (count + 1))
if count < {failures}:
    sys.exit({words!r})
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
port = int(sys.argv[sys.argv.index("--server-port") + 1])
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""
MISSED = "RPCServerDeadError: PyTorch ZMQ engine process is not alive."


def engine_that_says(words: str, failures: int, folder: Path) -> Engine:
    """LMDeploy whose server ends with *words* so many times, then serves."""
    interpreter = folder / "python"
    counter = str(folder / "starts")
    interpreter.write_text(SCRIPT.format(python=sys.executable, counter=counter, failures=failures, words=words))
    interpreter.chmod(0o755)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    settings = EngineSettings(
        kind="lmdeploy", interpreter=interpreter, base_path=folder, base_name="base", log_path=folder / "log"
    )
    return build_engine(settings)


@pytest.mark.anyio
async def test_a_start_whose_processes_missed_each_other_is_repeated_once(tmp_path: Path) -> None:
    engine = engine_that_says(MISSED, 1, tmp_path)
    await engine.start()
    assert await engine.is_healthy()
    await engine.stop(5.0)
    assert len((tmp_path / "starts").read_text()) == 2


@pytest.mark.anyio
@pytest.mark.parametrize(("words", "failures", "starts"), [(MISSED, 2, 2), ("out of memory", 1, 1)])
async def test_another_failure_and_a_second_one_end_the_start_with_the_log(
    tmp_path: Path, words: str, failures: int, starts: int
) -> None:
    engine = engine_that_says(words, failures, tmp_path)
    with pytest.raises(EngineStartFailed, match=words):
        await engine.start()
    await engine.stop(0.0)
    assert len((tmp_path / "starts").read_text()) == starts
    assert words in engine.last_log_lines()
