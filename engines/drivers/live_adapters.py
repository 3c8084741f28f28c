"""Adapters that come and go while a server runs: one meaning of load and unload for servers that differ in both."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2

from engines.catalog import kind_of
from engines.drivers.openai_server import OpenAiServer, reason_of
from engines.errors import AdapterLoadFailed, AdapterNotLoaded, EngineStartFailed, EngineUnreachable
from engines.settings import EngineSettings


class LiveAdapters:
    """Loads and unloads adapters over HTTP; which ones are loaded is always asked of the server."""

    def __init__(self, settings: EngineSettings, http: OpenAiServer) -> None:
        self._settings = settings
        self._http = http
        prefix = kind_of(settings.kind).admin_prefix
        self._load_path = f"{prefix}/load_lora_adapter"
        self._unload_path = f"{prefix}/unload_lora_adapter"

    async def loaded(self) -> frozenset[str]:
        """Return the served names of the adapters that answer requests."""
        return frozenset(await self._http.adapters())

    async def load_all(self, adapters: Mapping[str, Path]) -> None:
        """Load the adapters that a server starts with; `EngineStartFailed` when one is refused."""
        try:
            for served_name, path in adapters.items():
                await self.load(served_name, path)
        except AdapterLoadFailed as exc:
            raise EngineStartFailed(str(exc)) from exc

    async def load(self, served_name: str, path: Path) -> None:
        """Load the adapter unless it is there from the same path; `AdapterLoadFailed` when it is refused."""
        # Checked before the request: for a folder that is absent SGLang complains about the name of a hub repository.
        check_adapter(served_name, path, self._settings.max_rank)
        loaded = await self._http.adapters()  # not remembered here: a restarted server has none
        if loaded.get(served_name) == str(path):
            return
        if served_name in loaded:
            raise AdapterLoadFailed(f"{served_name} is already loaded, from {loaded[served_name]}, not from {path}")
        # Asked for one more, vLLM and SGLang would move out the least used adapter and report success.
        if len(loaded) >= self._settings.max_adapters:
            raise AdapterLoadFailed(f"{served_name}: all {len(loaded)} places for adapters are taken")
        answer = await self._http.post(self._load_path, {"lora_name": served_name, "lora_path": str(path)})
        if answer.status_code != httpx2.codes.OK:
            raise AdapterLoadFailed(f"{served_name} from {path}: {reason_of(answer)}")

    async def unload(self, served_name: str) -> None:
        """Unload the adapter; `AdapterNotLoaded` when the server does not know the name."""
        # Looked up first, because servers differ for an unknown name: vLLM answers 404, SGLang 400.
        if served_name not in await self._http.adapters():
            raise AdapterNotLoaded(f"{served_name} is not loaded")
        answer = await self._http.post(self._unload_path, {"lora_name": served_name})
        if answer.status_code == httpx2.codes.NOT_FOUND:
            raise AdapterNotLoaded(f"{served_name}: {reason_of(answer)}")
        if answer.status_code != httpx2.codes.OK:
            raise EngineUnreachable(f"unloading {served_name} answered {answer.status_code}: {reason_of(answer)}")


def check_adapter(served_name: str, path: Path, max_rank: int) -> Mapping[str, Any]:
    """Return the adapter's config; `AdapterLoadFailed` when it cannot be read or its rank is above *max_rank*."""
    if not path.is_dir():
        raise AdapterLoadFailed(f"{served_name}: {path} does not exist")
    try:
        config: dict[str, Any] = json.loads((path / "adapter_config.json").read_text())
        rank = int(config["r"])
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise AdapterLoadFailed(f"{served_name}: no usable adapter_config.json in {path} ({exc})") from exc
    if rank > max_rank:
        raise AdapterLoadFailed(f"{served_name}: rank {rank} is above max_rank = {max_rank}")
    return config
