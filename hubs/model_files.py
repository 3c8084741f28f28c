"""Which files of a repository make a model that Lorry serves: each once, and none that runs code when it is loaded."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Final

from hubs.errors import NotPullable
from hubs.repository import NO_SIZE, RemoteFile

_WEIGHTS: Final = ".safetensors"
_PICKLES: Final = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_OTHER_FORMATS: Final = (".gguf", ".onnx", ".h5", ".msgpack", ".tflite", ".mlmodel", ".ot", ".engine", ".npz")
_BESIDE: Final = re.compile(
    r"(.*config.*\.json|modules\.json|tokenizer.*|.*\.tiktoken|.*\.model|vocab.*|merges\.txt|special_tokens_map\.json"
    r"|added_tokens\.json|chat_template.*|README\.md|(LICEN[CS]E|NOTICE|COPYING|USE_POLICY).*)",
    re.IGNORECASE,
)
"""Names of the files at the top that go with the weights."""
_PARTS: Final = re.compile(r"(\d+_[A-Za-z]+/(config\.json|model\.safetensors)|additional_chat_templates/[^/]+\.jinja)")
"""Files below the top: the further modules of an encoder, and further chat templates."""
_SHARD: Final = re.compile(r"model-\d+-of-\d+\.safetensors")
_INDEX: Final = "model.safetensors.index.json"


def model_files(name: str, files: Sequence[RemoteFile]) -> list[RemoteFile]:
    """Return the files of the model *name* that are fetched, ordered by path; `NotPullable` names what it is."""
    paths = {file.path for file in files}
    weights = _weights(paths)
    if "adapter_config.json" in paths and not weights:
        raise NotPullable(
            f"{name}: is an adapter and no whole model; fetch its folder and publish that: lorry adapters publish"
        )
    if not weights:
        raise NotPullable(f"{name}: has no weights in safetensors; {_instead(paths)}")
    for needed, what in (("config.json", "configuration"), ("tokenizer_config.json", "tokenizer")):
        if needed not in paths:
            raise NotPullable(f"{name}: has no {needed} (the {what}), so it is not a model in Hugging Face's form")
    taken = sorted((file for file in files if _is_taken(file.path, weights)), key=lambda file: file.path)
    for file in taken:
        if file.size_bytes == NO_SIZE or file.hub_hash is None:
            raise NotPullable(f"{name}: the hub names no size or no hash of {file.path}, so it cannot be checked; ask "
                              "the hub itself in place of a mirror")  # fmt: skip
    return taken


def _is_taken(path: str, weights: frozenset[str]) -> bool:
    if path.endswith((*_PICKLES, *_OTHER_FORMATS, ".py")):
        return False
    if path.endswith(_WEIGHTS) and "/" not in path:
        return path in weights
    if path == _INDEX:
        return any(_SHARD.fullmatch(each) for each in weights)
    return bool(_PARTS.fullmatch(path) or ("/" not in path and _BESIDE.fullmatch(path)))


def _weights(paths: set[str]) -> frozenset[str]:
    """Return the weights at the top, of several forms of the same the one that Transformers loads."""
    top = {path for path in paths if path.endswith(_WEIGHTS) and "/" not in path}
    if "model.safetensors" in top:
        return frozenset({"model.safetensors"})
    shards = {path for path in top if _SHARD.fullmatch(path)}
    if shards and _INDEX in paths:
        return frozenset(shards)
    return frozenset(path for path in top if not path.startswith(("consolidated", "adapter_model")))


def _instead(paths: set[str]) -> str:
    """Describe what a repository without such weights has."""
    pickles = sorted(path for path in paths if path.endswith(_PICKLES))
    if pickles:
        return (
            f"{pickles[0]} is a pickle, which may run any code when it is loaded: take a repository that has "
            "safetensors, or convert it and give the folder with --model"
        )
    others = sorted(path for path in paths if path.endswith(_OTHER_FORMATS))
    if others:
        return f"it has {others[0]}, a form of other programs: take the repository that this one was made from"
    deeper = sorted(path for path in paths if path.endswith(_WEIGHTS))
    if deeper:
        return f"they are in folders of parts ({PurePosixPath(deeper[0]).parent}/), as those of no language model are"
    return f"its files: {', '.join(sorted(paths)[:8]) or 'none'}"
