"""A child runs the code of its worker, wherever the worker was started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.trainer.conftest import MakeSpec
from trainer.order import ChildOrder
from trainer.progress import RecipeFailed
from trainer.runner import TrainingChild, await_end, described_end


def test_a_child_of_a_worker_in_another_checkout_runs_the_code_of_its_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_spec: MakeSpec
) -> None:
    for package in ("trainer", "registry"):
        (checkout := tmp_path / "checkout" / package).mkdir(parents=True)
        (checkout / "__init__.py").write_text("raise SystemExit('the code of another checkout')\n")
    (tmp_path / "base").mkdir()
    (tmp_path / "attempt").mkdir()
    monkeypatch.chdir(tmp_path / "checkout")
    order = ChildOrder(
        spec=make_spec(),
        base_path=tmp_path / "base",
        inputs={},
        job_folder=tmp_path,
        attempt_folder=tmp_path / "attempt",
        keep_checkpoints=1,
        threads=1,
        nice=0,
        worker_pid=os.getpid(),
    )
    child = TrainingChild(order)
    try:
        progress = child.next_progress(60.0)
    finally:
        child.close()
    assert isinstance(progress, RecipeFailed)
    assert progress.code == "base_changed", "the first thing that our child looks at"


def test_a_process_that_takes_long_to_end_fails_nothing(tmp_path: Path) -> None:
    log = tmp_path / "child.log"
    log.write_text("the last words\n")
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        assert await_end(process, 0.01) is None
        process.kill()
        assert await_end(process, 60.0) == -signal.SIGKILL
        assert "killed by SIGKILL" in described_end(process, log)
