"""A server that takes its key on its command line alone gets it there, unseen by others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from engines import keyed_server

SERVER = """
import logging, os, sys
logging.basicConfig(level="INFO", format="%(message)s")
logging.info("arguments %s", sys.argv[1:])
print(sys.argv[1:], sys.modules["__main__"].__spec__.name, os.environ.get("LORRY_SERVER_KEY"))
print(open("/proc/self/cmdline").read().replace(chr(0), " "))
"""


def test_a_module_sees_the_key_in_its_arguments_and_others_do_not(tmp_path: Path) -> None:
    (tmp_path / "served_module.py").write_text(SERVER)
    ran = subprocess.run(
        [sys.executable, keyed_server.__file__, "--api-key", "-m", "served_module", "--port", "1"],
        env={keyed_server.KEY_VARIABLE: "secret", "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60.0,
        check=True,
    )
    seen, command_line = ran.stdout.splitlines()
    assert seen == "['--port', '1', '--api-key', 'secret'] served_module None"
    assert command_line.strip().endswith("--api-key -m served_module --port 1")
    assert ran.stderr == "arguments ['--port', '1', '--api-key', '***']\n"
