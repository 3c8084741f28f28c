"""Whoever changes their mind while Lorry starts for the first time gets their terminal back, and starts again later."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from engines.drivers.server_process import free_port
from tests.up_process import LORRY
from tests.waiting import wait_for

pytestmark = pytest.mark.scenario

START_S = 120.0


def test_ctrl_c_during_a_first_start_ends_it_whatever_is_under_way(tmp_path: Path) -> None:
    said = tmp_path / "said"
    environment = os.environ | {"LORRY_HOME": str(tmp_path / "home")}
    command = [*LORRY, "up", "--port", str(free_port("127.0.0.1"))]
    with said.open("wb") as output, subprocess.Popen(command, stderr=output, env=environment) as up:
        wait_for(lambda: "unpacking the bundled one" in said.read_text(), START_S)
        tree = psutil.Process(up.pid).children(recursive=True)
        up.send_signal(signal.SIGINT)
        assert up.wait(timeout=START_S) == 1
    _, alive = psutil.wait_procs(tree, timeout=60)
    assert alive == []
    lines = said.read_text().splitlines()
    assert lines[0].endswith("s  Starting Lorry")
    assert lines[-1] == "Stopped before it was ready."
