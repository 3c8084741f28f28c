"""A server wants the key of its start, which nobody else on the machine can read."""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import urlsplit

import psutil
import pytest

from engines.address import key_of
from tests.contract.engine_host import EngineHost

OPEN = {"sglang": frozenset({"/metrics"})}
"""Paths that a kind answers without its key, besides those that say whether it is ready."""
STRANGERS: tuple[dict[str, str], ...] = ({}, {"authorization": "Bearer guess"})


@pytest.mark.parametrize("headers", STRANGERS)
def test_without_its_key_a_server_answers_nothing(kind: str, host: EngineHost, headers: dict[str, str]) -> None:
    with host.client_with(headers) as stranger:
        for path in sorted({"/v1/models", "/metrics"} - OPEN.get(kind, frozenset())):
            assert host.http.get(path).status_code == 200, path
            assert stranger.get(path).status_code == 401, path
        for path in sorted(host.engine.traits.paths):
            assert stranger.post(path, json=host.body()).status_code == 401, path


def test_no_command_line_and_no_log_of_a_server_shows_its_key(host: EngineHost) -> None:
    lines = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            lines.append(" ".join(process.cmdline()))
    key = key_of(host.engine.base_url)
    assert key
    assert any(str(urlsplit(host.engine.base_url).port) in line for line in lines)
    assert not any(key in line for line in lines)
    assert key not in host.log_path.read_text(errors="replace")
