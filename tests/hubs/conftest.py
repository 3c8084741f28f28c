"""A server that speaks the protocols of both hubs, which both clients ask."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hubs.hub_server import COMMIT, SMALL, HubModel, HubServer


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    server = HubServer({"acme/tiny": HubModel(commits={COMMIT: SMALL})})
    for name, value in server.environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    for name in ("HF_TOKEN", "MODELSCOPE_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    yield server
    server.close()
