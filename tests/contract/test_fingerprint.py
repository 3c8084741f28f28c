"""Every engine proves a good adapter, and each of the faults that have been seen in the field fails with numbers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engines.catalog import ENGINES, adapter_fields
from engines.errors import EngineUnreachable, FingerprintMissing
from engines.proving.fingerprint import Proof, prove, tolerance_of
from engines.settings import EngineSettings
from tests.contract.engine_host import BASE, EngineHost
from tests.contract.published import LEGAL, OTHER_BASE, SERVED, published

log = logging.getLogger(__name__)


@pytest.fixture(scope="session")
def made(model_folder: Path) -> Path:
    """The folder of everything that the trainer made."""
    return published(model_folder)


@pytest.fixture(scope="session")
def folders(made: Path) -> dict[str, Path]:
    """Served name -> folder."""
    return {name: made / name for name in SERVED}


@pytest.fixture(scope="module")
def server(
    kind: str,
    settings_of: Callable[..., EngineSettings],
    folders: dict[str, Path],
    request: pytest.FixtureRequest,
) -> Iterator[EngineHost]:
    """A server with all of them: the suite's own where adapters come and go, else one that was started with them."""
    if not ENGINES[kind].live_adapters:
        running = EngineHost(settings_of(max_adapters=len(folders), max_rank=32), folders)
        yield running
        running.close()
        return
    host: EngineHost = request.getfixturevalue("host")
    for name, folder in folders.items():
        host.load(name, folder)
    yield host
    for name in folders:
        host.call(host.engine.unload_adapter(name))


def proof_of(server: EngineHost, name: str, folder: Path) -> Proof:
    fields = {"model": BASE} if name == BASE else adapter_fields(server.kind, name)
    proof = asyncio.run(prove(server.engine.base_url, fields, folder, tolerance_of(server.kind, "fp32")))
    log.info("%s %s: %s", server.kind, name, proof.message)  # shown with --log-cli-level=info
    return proof


@pytest.mark.parametrize("name", ["good@1", "faint@1", *LEGAL])
def test_a_good_adapter_passes_and_normalising_changed_nothing(
    server: EngineHost, folders: dict[str, Path], name: str
) -> None:
    proof = proof_of(server, name, folders[name])
    assert proof.passed, proof.message
    assert proof.prompt_tokens_equal
    assert proof.separation == pytest.approx(1.0, abs=0.05)
    assert proof.mean_difference < 0.005
    assert proof.compared > proof.recorded / 2


@pytest.mark.parametrize("name", ["good@1", "faint@1"])
def test_an_adapter_that_is_silently_not_applied_fails_however_faint_it_is(
    server: EngineHost, folders: dict[str, Path], name: str
) -> None:
    proof = proof_of(server, BASE, folders[name])
    assert not proof.passed
    assert proof.message.startswith("the adapter is not applied")
    assert proof.separation == pytest.approx(0.0, abs=0.05)
    if name == "faint@1":
        assert proof.mean_difference < proof.tolerance, "the difference alone would not have shown it"


@pytest.mark.parametrize(("template", "same_length"), [("longer", False), ("reworded", True)])
def test_another_chat_template_fails(server: EngineHost, made: Path, template: str, same_length: bool) -> None:
    proof = proof_of(server, "good@1", made / template)
    assert not proof.passed
    if same_length:
        assert proof.mean_difference > proof.tolerance
    else:
        assert not proof.prompt_tokens_equal


def test_another_base_fails(server: EngineHost, made: Path) -> None:
    proof = proof_of(server, "good@1", made / OTHER_BASE)
    assert not proof.passed
    assert proof.prompt_tokens_equal
    assert proof.mean_difference > proof.tolerance


def test_a_missing_rslora_factor_fails(server: EngineHost, folders: dict[str, Path]) -> None:
    proof = proof_of(server, "unscaled@1", folders["good@1"])
    assert not proof.passed
    assert "another effect than in training" in proof.message
    assert proof.separation is not None and 0.0 < proof.separation < 0.6


@pytest.mark.engine
def test_without_fingerprint_or_server_nothing_is_proven(tmp_path: Path, folders: dict[str, Path]) -> None:
    def ask(folder: Path) -> None:
        asyncio.run(prove("http://127.0.0.1:1", {"model": BASE}, folder, 0.01))

    with pytest.raises(FingerprintMissing, match=r"has no fingerprint\.json"):
        ask(tmp_path)
    (tmp_path / "fingerprint.json").write_text('{"format": 2}')
    with pytest.raises(FingerprintMissing, match="is not as this Lorry writes it, at format: publish the folder again"):
        ask(tmp_path)
    with pytest.raises(EngineUnreachable, match="POST /v1/chat/completions"):
        ask(folders["good@1"])
