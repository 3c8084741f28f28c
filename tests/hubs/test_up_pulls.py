"""`lorry up --model OWNER/NAME` pulls what is not here, and serves the commit that is."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from gateway.errors import StartFailed
from gateway.models_settings import ModelsSettings
from gateway.settings import Settings
from gateway.up.flags import source_of
from gateway.up.model_pull import with_pulled_model
from gateway.up.progress import StartProgress
from registry.database import Registry
from tests.hubs.hub_server import COMMIT, LATER, SMALL, HubModel, HubServer

pytestmark = pytest.mark.corpus


class Start:
    """A start with `--model`, and what it shows."""

    def __init__(self, registry: Registry, settings: Settings) -> None:
        self.registry, self.settings = registry, settings
        self.shown = io.StringIO()

    def base(self) -> str:
        """Return the base of the pool that is started."""
        progress = StartProgress(Console(file=self.shown, width=400))
        (pool,) = with_pulled_model(self.settings, None, self.registry, progress).engines.pools
        return str(pool.base)


@pytest.fixture
def start(sqlite_registry: Registry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Start:
    monkeypatch.setenv("LORRY_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("LORRY_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    return Start(sqlite_registry, source_of(None, "acme/tiny", "auto").load())


def test_a_model_is_pulled_once_and_pinned_whatever_its_branch_does(hub: HubServer, start: Start) -> None:
    assert start.base() == f"acme/tiny@{COMMIT}"
    assert f"acme/tiny at commit {COMMIT}" in start.shown.getvalue()
    model = hub.models["acme/tiny"]
    model.commits[LATER], model.branches["main"] = SMALL, LATER
    asked = len(model.asked)
    assert start.base() == f"acme/tiny@{COMMIT}"
    assert len(model.asked) == asked


def test_what_cannot_be_pulled_ends_the_start_with_what_to_do(hub: HubServer, start: Start) -> None:
    hub.models["acme/tiny"] = HubModel(commits={COMMIT: SMALL}, licence="odd")
    start.settings = replace(start.settings, models=ModelsSettings(licences=("mit",)))
    with pytest.raises(StartFailed, match=r"--model acme/tiny: its licence is odd; .* give its path, ./acme/tiny"):
        start.base()


def test_a_folder_of_that_name_is_no_id(start: Start, tmp_path: Path) -> None:
    (tmp_path / "acme" / "tiny").mkdir(parents=True)
    (pool,) = source_of(None, "acme/tiny", "auto").load().engines.pools
    assert pool.base == tmp_path / "acme" / "tiny"
