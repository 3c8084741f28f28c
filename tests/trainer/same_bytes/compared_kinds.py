"""The kinds of jobs of which the same spec gives the same bytes: every method, kind of weights and optimizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.kills.asked import KINDS, SIMILAR, Trained, chat, pair, rated, sampled

FULL: Mapping[str, Any] = {"weights": "full", "lora_rank": None, "learning_rate": 0.001}
PROJECTED: Mapping[str, Any] = {**FULL, "optimizer_rank": 8, "optimizer_interval": 2}
WEIGHTS: Mapping[str, Mapping[str, Any]] = {
    "rslora": {"lora_variant": "rslora", "lora_plus_ratio": 16.0},
    "pissa": {"lora_variant": "pissa"},
    "olora": {"lora_variant": "olora"},
    "dora": {"lora_variant": "dora"},
    "qlora": {"weights": "qlora"},
    "adafactor": {**FULL, "optimizer": "adafactor", "gradient_checkpointing": True},
    "galore": {**PROJECTED, "optimizer": "galore"},
    "apollo": {**PROJECTED, "optimizer": "apollo"},
}
DROPOUT = {"lora_dropout": 0.1}
IPO = {**FULL, "loss_type": "ipo"}
FURTHER: Sequence[Trained] = (
    Trained(name="ipo-of-full", method="dpo", rows=pair, hyperparameters=IPO),
    Trained(name="kto-validated", method="kto", rows=rated, hyperparameters=DROPOUT, validates=True),
    Trained(name="reward-validated", method="reward", rows=pair, hyperparameters=DROPOUT, validates=True),
    sampled("dropped-out", "reinforcement", SIMILAR, **DROPOUT, iterations=2, checkpoint_steps=3),
    sampled("ppo-once", "ppo", SIMILAR, iterations=1),
)
COMPARED: Sequence[Trained] = (
    *(kind for kind in KINDS if isinstance(kind, Trained)),
    *FURTHER,
    *(Trained(name=name, method="supervised", rows=chat, hyperparameters=given) for name, given in WEIGHTS.items()),
)
