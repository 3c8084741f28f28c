"""Adapters of the server: read from a folder, checked, held in the layers, counted while in use."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from re import fullmatch
from typing import Any, Final

import re2
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from engines.transformers.errors import BadRequest, NoSuchResource
from engines.transformers.linear import AdaptedLinear, LoraPair

PREFIX: Final = "base_model.model."
ROUTE_PARAM: Final = "lora_path"


@dataclass(slots=True, eq=False)
class LoadedAdapter:
    """An adapter in the layers; `id` is never used again, so nothing cached for another can match it."""

    id: int
    name: str
    path: str
    users: int = 0
    is_leaving: bool = False
    """No name leads to the adapter any more; its weights go with its last request."""
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once its weights are out of the layers."""


class AdapterTable:
    """Name -> adapter, used from the event loop only; the layers see an adapter before any step names it."""

    def __init__(self, layers: Mapping[str, AdaptedLinear], *, max_adapters: int, max_rank: int) -> None:
        self._layers = layers
        self._max_adapters = max_adapters
        self._max_rank = max_rank
        self._loaded: dict[str, LoadedAdapter] = {}
        self._leaving = 0
        self._ids = count(1)
        self._loading = asyncio.Lock()

    def listing(self) -> list[LoadedAdapter]:
        """Return the adapters that answer requests, oldest first."""
        return list(self._loaded.values())

    async def load(self, name: str, path: str) -> None:
        """Load the adapter at *path* under *name*; the same again is a no-op; `BadRequest`, `NoSuchResource`."""
        async with self._loading:
            there = self._loaded.get(name)
            if there is not None and there.path == path:
                return
            if there is not None:
                raise BadRequest(f"adapter {name!r} is already loaded from {there.path}", param="lora_name")
            if len(self._loaded) + self._leaving >= self._max_adapters:
                raise BadRequest(f"all {self._max_adapters} places for adapters are taken", param="lora_name")
            # A thread reads, so that requests go on; the lock keeps two loads from taking the same last place.
            pairs = await asyncio.to_thread(read_adapter, Path(path), self._layers, self._max_rank)
            adapter = LoadedAdapter(next(self._ids), name, path)
            for layer, pair in pairs.items():
                self._layers[layer].pairs[adapter.id] = pair
            # The name is known only now that every layer has its factors: no request finds half an adapter.
            self._loaded[name] = adapter

    async def unload(self, name: str) -> None:
        """Remove *name* at once, its weights when the last request that uses them ends; `NoSuchResource`."""
        adapter = self._loaded.pop(name, None)
        if adapter is None:
            raise NoSuchResource(f"adapter {name!r} is not loaded", param="lora_name", code="adapter_not_found")
        self._leaving += 1  # the weights keep their place until the last request has ended
        adapter.is_leaving = True
        if adapter.users == 0:
            self._remove(adapter)
        # Whoever waits may be cancelled here: the last request removes the weights, not the one that unloads.
        await adapter.gone.wait()

    def acquire(self, name: str) -> LoadedAdapter | None:
        """Return the adapter called *name*, counted as used until `release`; None if it is not loaded."""
        adapter = self._loaded.get(name)
        if adapter is not None:
            adapter.users += 1
        return adapter

    def release(self, adapter: LoadedAdapter) -> None:
        """Count one user less; the last one of an adapter that leaves takes its weights along."""
        adapter.users -= 1
        if adapter.users == 0 and adapter.is_leaving:
            self._remove(adapter)

    def _remove(self, adapter: LoadedAdapter) -> None:
        for layer in self._layers.values():
            layer.pairs.pop(adapter.id, None)
        self._leaving -= 1
        adapter.gone.set()


def read_adapter(folder: Path, layers: Mapping[str, AdaptedLinear], max_rank: int) -> dict[str, LoraPair]:
    """Read layer name -> factors of the PEFT adapter in *folder*; `NoSuchResource`, `BadRequest`."""
    settings_path, weights_path = folder / "adapter_config.json", folder / "adapter_model.safetensors"
    for path in (settings_path, weights_path):
        if not path.is_file():
            raise NoSuchResource(f"{path} does not exist", param=ROUTE_PARAM, code="adapter_not_found")
    try:
        settings = json.loads(settings_path.read_text())
        tensors = load_file(weights_path)
    except (OSError, ValueError, SafetensorError) as exc:
        raise BadRequest(f"{folder} cannot be read: {exc}", param=ROUTE_PARAM) from exc
    refuse_what_is_not_plain_lora(settings)
    factors: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        layer, factor = split_key(key)
        factors.setdefault(layer, {})[factor] = tensor.to(torch.float32)
    return {layer: pair_of(layer, found, layers, settings, max_rank) for layer, found in factors.items()}


def refuse_what_is_not_plain_lora(settings: Mapping[str, Any]) -> None:
    """Raise `BadRequest` for kinds of adapters whose effect these layers do not compute."""
    expected = {"peft_type": "LORA", "bias": "none", "use_dora": False, "modules_to_save": None, "lora_bias": False}
    for name, value in expected.items():
        if settings.get(name, value) not in (value, []):
            raise BadRequest(
                f"adapter_config.json: {name} must be {value!r}, not {settings[name]!r}", param=ROUTE_PARAM
            )


def split_key(key: str) -> tuple[str, str]:
    """Return the name of the layer and `A` or `B`, from the name of a tensor in PEFT's format."""
    match = fullmatch(rf"{PREFIX}(.+)\.lora_([AB])\.weight", key)
    if match is None:
        raise BadRequest(f"tensor {key} is no LoRA factor", param=ROUTE_PARAM)
    return match[1], match[2]


def pair_of(
    name: str,
    factors: Mapping[str, Tensor],
    layers: Mapping[str, AdaptedLinear],
    settings: Mapping[str, Any],
    max_rank: int,
) -> LoraPair:
    """Return both factors of one layer, checked against its shape, with the scaling in the second."""
    layer = layers.get(name)
    if layer is None or set(factors) != {"A", "B"}:
        raise BadRequest(f"{name}: the base model has no such layer, or a factor is missing", param=ROUTE_PARAM)
    down, up = factors["A"], factors["B"]
    rank = down.shape[0]
    if rank > max_rank:
        raise BadRequest(f"{name}: rank {rank} is above the limit of {max_rank}", param=ROUTE_PARAM)
    if down.shape != (rank, layer.in_features) or up.shape != (layer.out_features, rank):
        raise BadRequest(
            f"{name}: factors {tuple(down.shape)} and {tuple(up.shape)} do not fit a layer of "
            f"{layer.in_features} to {layer.out_features}",
            param=ROUTE_PARAM,
        )
    return LoraPair(down.t().contiguous(), (up * scaling_of(name, rank, settings)).t().contiguous())


def scaling_of(name: str, rank: int, settings: Mapping[str, Any]) -> float:
    """Return `alpha / rank`, for rank-stabilised LoRA `alpha / sqrt(rank)` (arXiv:2312.03732); patterns as in PEFT."""
    patterns = settings.get("alpha_pattern") or {}
    alpha = next((value for pattern, value in patterns.items() if _matches(pattern, name)), settings["lora_alpha"])
    return float(alpha) / (rank**0.5 if settings.get("use_rslora") else rank)


def _matches(pattern: str, name: str) -> bool:
    """Whether *pattern* matches *name*, or its end after a dot, in linear time: Python's `re` may take hours."""
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.fullmatch(rf"(?:.*\.)?(?:{pattern})", name, options) is not None
    except (re2.error, UnicodeError) as exc:
        why = "not a pattern that RE2 can match"
        raise BadRequest(f"adapter_config.json: alpha_pattern has {pattern!r}, {why}", param=ROUTE_PARAM) from exc
