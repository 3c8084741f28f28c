"""A gateway with a base model and an adapter for it, both of which other tools load."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from peft import PeftModel

from gateway.settings import GatewaySettings
from registry.artifacts import folder_digest
from registry.contracts.fingerprint import write_fingerprint
from registry.database import Registry
from registry.publishing.normalize import normalize_adapter
from registry.publishing.publish import publish
from registry.types import Base, RevisionDraft
from tests.engines.random_adapter import write_adapter
from tests.exports.gguf.tiny_models import save_tiny
from tests.gateway.served import ServedGateway
from trainer.data.dataset import ChatEncoder
from trainer.data.probes import ProbePrompts, neutral_prompts
from trainer.training.base_model import load_base
from trainer.training.fingerprint import record_fingerprint


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhibit:
    """`support@1` on the base `tiny`, behind a gateway."""

    url: str
    registry: Registry
    base: Base
    artifact: Path


@pytest.fixture
def exhibit(sqlite_registry: Registry, tmp_path: Path) -> Iterator[Exhibit]:
    """A gateway that has a revision with its fingerprint."""
    folder = tmp_path / "tiny"
    save_tiny(folder, "llama")
    base = Base(name="tiny", path=str(folder), digest=folder_digest(folder), licence="apache-2.0", created_at=1.0)
    sqlite_registry.bases.enter(base)
    normal = tmp_path / "normal"
    normalize_adapter(write_adapter(tmp_path / "raw", folder, 1, rank=4, strength=0.05), normal, "tiny", folder)
    model = PeftModel.from_pretrained(load_base(folder), normal)
    prompts = ProbePrompts(trained=(), neutral=neutral_prompts(6))
    write_fingerprint(record_fingerprint(model, ChatEncoder(folder), prompts, base.digest), normal)
    made = {"hyperparameters": {"method": "supervised", "n_epochs": 2}, "seed": 7, "source": "trained"}
    draft = RevisionDraft(adapter="support", base="tiny", owner="ann", provenance=made)
    revision = publish(sqlite_registry, normal, draft)
    with ServedGateway(GatewaySettings(), sqlite_registry) as served:
        yield Exhibit(
            url=f"http://127.0.0.1:{served.port}",
            registry=sqlite_registry,
            base=base,
            artifact=sqlite_registry.artifacts.folder(revision.artifact),
        )
