"""A reward model is a revision that is listed and kept, and that nothing routes, loads or rolls out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from registry.database import Registry
from registry.errors import AdapterRejected, Conflict, NotServable
from registry.publishing.publish import publish
from registry.publishing.score_head import SCORE_HEAD, SCORE_WEIGHT
from registry.rollouts.rollout import RolloutPlan, weighted
from registry.states import AdapterKind
from registry.types import Base, RevisionDraft
from tests.conftest import HIDDEN
from tests.registry.publishing.adapter_folders import Make

DRAFT = RevisionDraft(adapter="helpful", base="tiny", owner="ann", kind=AdapterKind.REWARD)


@pytest.fixture(autouse=True)
def _entered(registry: Registry, base: Base, base_folder: Path) -> None:
    (base_folder / "config.json").write_text(json.dumps({"model_type": "llama", "hidden_size": HIDDEN}))
    registry.bases.enter(base)


def reward_folder(folder: Path, weight: Any = None, name: str = SCORE_WEIGHT) -> Path:
    (folder / "fingerprint.json").unlink()
    save_file({name: np.ones((1, HIDDEN), np.float32) if weight is None else weight}, folder / SCORE_HEAD)
    return folder


def test_a_reward_model_is_listed_but_not_part_of_what_is_served(registry: Registry, make_adapter: Make) -> None:
    made = publish(registry, reward_folder(make_adapter()), DRAFT)
    assert (made.served_name, made.alias) == ("helpful@1", None)
    assert registry.adapters.get("helpful").kind is AdapterKind.REWARD
    assert [adapter.name for adapter in registry.adapters.list()] == ["helpful"]
    assert (registry.artifacts.folder(made.artifact) / SCORE_HEAD).is_file()
    snapshot = registry.snapshot()
    assert (snapshot.adapters, snapshot.revisions) == ((), ())
    plan = RolloutPlan(steps=weighted(50, 100))
    with pytest.raises(NotServable, match="is a reward model, which takes no traffic"):
        registry.rollouts.start("helpful", 1, plan, "ann")


def test_a_series_has_one_kind(registry: Registry, make_adapter: Make) -> None:
    publish(registry, reward_folder(make_adapter()), DRAFT)
    with pytest.raises(Conflict, match="'helpful' is a series of reward models, not of chat models"):
        publish(registry, make_adapter(), replace(DRAFT, kind=AdapterKind.CHAT))
    assert publish(registry, reward_folder(make_adapter(seed=2)), DRAFT).number == 2
    assert registry.adapters.latest() == {"helpful": 2}


@pytest.mark.parametrize(
    ("head", "why"),
    [
        ({"weight": np.zeros((1, HIDDEN), np.float32)}, "every chat would have the score 0"),
        ({"weight": np.full((1, HIDDEN), np.inf, np.float32)}, "not finite"),
        ({"weight": np.ones((2, HIDDEN), np.float32)}, r"this base model needs score.weight of \[1, 8\] alone"),
        ({"name": "head.weight"}, "needs score.weight"),
    ],
)
def test_a_head_that_gives_no_score_is_refused(
    registry: Registry, make_adapter: Make, head: dict[str, Any], why: str
) -> None:
    with pytest.raises(AdapterRejected, match=why):
        publish(registry, reward_folder(make_adapter(), **head), DRAFT)


def test_a_reward_model_needs_its_head_and_a_chat_adapter_has_none(registry: Registry, make_adapter: Make) -> None:
    with pytest.raises(AdapterRejected, match=r"score_head.safetensors: missing"):
        publish(registry, make_adapter(), DRAFT)
    with pytest.raises(AdapterRejected, match=r"score_head.safetensors: not part of an adapter"):
        publish(registry, reward_folder(make_adapter()), replace(DRAFT, kind=AdapterKind.CHAT))
