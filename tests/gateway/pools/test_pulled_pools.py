"""A pool names its base model by the id of a pulled model; what was not pulled, or has changed, is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.errors import StartFailed
from gateway.pools.base_objects import remove_base
from gateway.pools.pools import prepare_pools
from registry.artifacts import folder_digest
from registry.database import Registry
from registry.errors import Conflict
from registry.pulled.pulled_model import PulledModel
from registry.pulled.pulled_models import enter_pulled
from registry.settings import RegistrySettings
from registry.types import Base
from tests.gateway.pools.test_pools import TRANSFORMERS, Desk, settings_with
from tests.hubs.hub_server import COMMIT, LATER

Serve = Callable[[str], Base]


@pytest.fixture
def enter(sqlite_registry: Registry, base: Base, tmp_path: Path) -> Callable[[str], Path]:
    """Enter a commit of `acme/Tiny` with a folder of its own, which is returned."""

    def enter_commit(commit: str) -> Path:
        folder = tmp_path / commit
        shutil.copytree(base.path, folder)
        (folder / "tokenizer_config.json").write_text("{}")
        (folder / "README.md").write_text(commit)
        model = PulledModel(
            hub="huggingface",
            id="acme/Tiny",
            commit=commit,
            asked_revision="main",
            pulled_by="ann",
            pulled_at=1.0,
            files={},
            remote_code=False,
        )
        made = replace(base, path=str(folder), digest=folder_digest(folder), provenance=model.as_provenance())
        enter_pulled(sqlite_registry, made, model)
        return folder

    return enter_commit


@pytest.fixture
def serve(sqlite_registry: Registry, sqlite_settings: RegistrySettings, base_folder: Path, tmp_path: Path) -> Serve:
    """Prepare a pool with this base."""

    def prepared(asked: str) -> Base:
        settings = settings_with(tmp_path, sqlite_settings, TRANSFORMERS | {"base": asked})
        (pool,) = prepare_pools(settings, sqlite_registry, Desk(base_folder))
        assert pool.engine.base_name == pool.base.name
        return pool.base

    return prepared


def test_the_id_serves_what_was_pulled_until_there_are_two_commits(enter: Callable[[str], Path], serve: Serve) -> None:
    first = enter(COMMIT)
    for asked in ("acme/Tiny", "acme/Tiny@main", f"acme/Tiny@{COMMIT}", f"acme/Tiny@{COMMIT[:8]}"):
        base = serve(asked)
        assert (base.name, base.path) == ("acme/Tiny", str(first))
    enter(LATER)
    with pytest.raises(StartFailed, match=rf"pulled 2 times.*acme/Tiny@{COMMIT}.*acme/Tiny@{LATER}"):
        serve("acme/Tiny")
    assert serve(f"acme/Tiny@{LATER}").name == f"acme/Tiny@{LATER[:7]}"


def test_a_model_that_a_pool_of_the_settings_names_stays(
    enter: Callable[[str], Path], sqlite_registry: Registry
) -> None:
    folder = enter(COMMIT)
    for asked in ("acme/Tiny", f"acme/Tiny@{COMMIT}"):
        with pytest.raises(Conflict, match="in use by pool small of the settings"):
            remove_base(sqlite_registry, "acme/Tiny", "ann", {"small": asked})
    assert remove_base(sqlite_registry, "acme/Tiny", "ann", {"small": "/models/other"}).deleted
    assert not folder.exists()


def test_what_was_not_pulled_or_is_not_as_it_was_is_refused_with_the_command(
    enter: Callable[[str], Path], serve: Serve
) -> None:
    with pytest.raises(
        StartFailed, match=r"no model of this id was pulled.*Pull it first: lorry models pull acme/Tiny"
    ):
        serve("acme/Tiny")
    folder = enter(COMMIT)
    (folder / "config.json").write_text('{"odd": 1}')
    with pytest.raises(StartFailed, match="have changed since it was pulled; lorry models verify acme/Tiny lists"):
        serve("acme/Tiny")
    shutil.rmtree(folder)
    with pytest.raises(StartFailed, match=rf"is gone; pull it again: lorry models pull acme/Tiny@{COMMIT} --hub hugg"):
        serve("acme/Tiny")
