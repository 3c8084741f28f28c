"""Normalised adapters with fingerprints as the trainer publishes them, and fingerprints of other adapters, for proofs.

Made once and kept beside the environment until a source that it comes from changes: PEFT computes for a minute.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
from hashlib import sha256
from pathlib import Path
from typing import Final

from filelock import FileLock

from registry.publishing.normalize import normalize_adapter
from tests.contract.engine_host import BASE
from tests.engines.random_adapter import write_adapter
from tests.trainer_side import TrainerSide, encoder_with

ROOT: Final = Path(__file__).parents[2]
RANK: Final = 16
LEGAL: Final = ("legal1@1", "legal2@1", "legal3@1")
SERVED: Final = ("good@1", "faint@1", *LEGAL, "unscaled@1")
EARLY_VALUES: Final = r"layers\.[0-9]\.self_attn\.(q|v)_proj"
TEMPLATES: Final = {
    "longer": ("SmolLM", "Kettle"),
    "reworded": ("You are a helpful AI assistant", "You are a hostile AI opponent"),
}
"""Folder of a fingerprint of the good adapter with another chat template -> what stood in it, and what stands there."""
OTHER_BASE: Final = "other-base"
"""Folder of a fingerprint of the good adapter on another base."""


def published(base: Path) -> Path:
    """The folder that has a folder for each of them by its name."""
    folder = Path(sys.prefix) / "lorry-tests" / f"published-{sources_digest()}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            staging = Path(f"{folder}.part")
            shutil.rmtree(staging, ignore_errors=True)
            make(staging, base)
            staging.rename(folder)
    return folder


def sources_digest() -> str:
    """Digest of everything that decides the published folders."""
    digest = sha256((ROOT / "constraints.txt").read_bytes())
    for package in ("registry", "trainer", "tests"):
        for file in sorted((ROOT / package).rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def make(root: Path, base: Path) -> None:
    """Adapters are normalised; their fingerprints are of what PEFT computed before that."""
    trainer = TrainerSide(base)
    raw = raw_adapters(root / "raw", base)
    for name, folder in raw.items():
        normalize_adapter(folder, root / name, BASE, base)
        trainer.record(folder, root / name)
    good = root / "good@1"
    without_rslora_factor(good, root / "unscaled@1")
    for name, (old, new) in TEMPLATES.items():
        shutil.copytree(good, root / name)
        trainer.record(good, root / name, encoder_with(base, root / f"base-{name}", old, new))
    shutil.copytree(good, root / OTHER_BASE)
    with trainer.other_base(".10.mlp.", ".11.mlp.", ".12.mlp."):
        trainer.record(good, root / OTHER_BASE)


def raw_adapters(root: Path, base: Path) -> dict[str, Path]:
    """As PEFT may save them: a good one, a faint one, and three drawn from what is legal."""
    raw = {
        "good@1": write_adapter(root / "good", base, 3, rank=RANK, strength=0.005, use_rslora=True),
        "faint@1": write_adapter(root / "faint", base, 4, rank=8, strength=2e-5),
    }
    for seed, name in enumerate(LEGAL):
        drawn = random.Random(seed)
        rank, pattern = drawn.randint(1, 20), {EARLY_VALUES: drawn.randint(1, 24)}
        config = {
            "use_rslora": drawn.random() < 0.5,
            "lora_alpha": drawn.randint(1, 48),
            "alpha_pattern": {"down_proj": drawn.randint(1, 64)} if drawn.random() < 0.5 else {},
        }
        raw[name] = write_adapter(root / name, base, seed, rank=rank, rank_pattern=pattern, strength=0.003, **config)
    return raw


def without_rslora_factor(good: Path, folder: Path) -> None:
    """As an engine would compute the good adapter if it had left its rank-stabilised scaling out."""
    shutil.copytree(good, folder)
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"lora_alpha": round(config["lora_alpha"] / RANK**0.5)}))
