"""A running Lorry on a home of its own, for the stories of one file."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.engines_settings import BUNDLED_BASE
from tests.up_process import Up


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Path:
    """An empty `LORRY_HOME` that has the bundled model unpacked already."""
    folder: Path = tmp_path_factory.mktemp("home")
    (folder / "cache").mkdir()
    (folder / "cache" / BUNDLED_BASE).symlink_to(model_folder)
    return folder


@pytest.fixture(scope="module")
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        number: int = probe.getsockname()[1]
        return number


@pytest.fixture(scope="module")
def settings() -> str:
    """The settings file; a file of stories may have its own."""
    return ""


@pytest.fixture(scope="module")
def up(home: Path, port: int, settings: str) -> Iterator[Up]:
    """Lorry, ready."""
    running = Up(home, port, settings)
    yield running
    running.close_clients()
    if running.process.poll() is None:
        running.stop(signal.SIGKILL)
