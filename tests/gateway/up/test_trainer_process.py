"""A trainer that hangs is found by its file, and started again."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import psutil
import pytest

from gateway.up.trainer_process import TrainerProcess
from registry.disk import TRAINER, Liveness
from tests.waiting import wait_for


@pytest.mark.long
def test_a_trainer_that_shows_no_work_is_killed_and_one_that_does_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sqlite_template: Path
) -> None:
    monkeypatch.setenv("LORRY_HOME", str(tmp_path))
    shutil.copy(sqlite_template, tmp_path / "registry.db")  # without one the trainer would end by itself
    (tmp_path / "logs").mkdir()
    trainer, alive = TrainerProcess("http://127.0.0.1:1", silent_s=1.0), tmp_path / "run" / "trainer.alive"
    trainer.keep_running(tmp_path)
    (pid,) = trainer.pids
    os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    Liveness(tmp_path, TRAINER).beat()
    os.utime(alive, (time.time() + 60.0,) * 2)
    trainer.keep_running(tmp_path)
    assert psutil.Process(pid).status() == psutil.STATUS_STOPPED
    os.utime(alive, (1.0, 1.0))

    def has_ended() -> bool:
        trainer.keep_running(tmp_path)
        return not psutil.pid_exists(pid)

    # The time since its start counts as work, so that a slow start is no hang.
    wait_for(has_ended)
    trainer.ask_to_stop()
    trainer.wait()


@pytest.mark.long
def test_a_trainer_of_a_gateway_in_another_checkout_runs_the_code_of_its_gateway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "trainer").mkdir()
    (tmp_path / "trainer" / "__init__.py").write_text("raise SystemExit('the code of another checkout')\n")
    monkeypatch.setenv("LORRY_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    trainer = TrainerProcess("http://127.0.0.1:1")
    trainer.keep_running(tmp_path)
    trainer.wait()  # ends at once, as the home has no registry
    assert "the trainer cannot start" in (tmp_path / "logs" / "trainer.log").read_text()
