"""The flags of `lorry up` over the settings file."""

from __future__ import annotations

from pathlib import Path

from gateway.pools.hub_ids import is_hub_id
from gateway.settings import SettingsSource, configured


def source_of(port: int | None, model: str | None, engine: str, host: str | None = None) -> SettingsSource:
    """Return where settings come from, with the flags of `lorry up`; *model* is a folder, or an id on a hub."""
    gateway: dict[str, object] = {} if port is None else {"port": port}
    if host is not None:
        gateway["host"] = host
    base = None if model is None else Path(model) if is_hub_id(model) else Path(model).absolute()
    engines: dict[str, object] = {} if base is None else {"base": base}
    if engine != "auto":
        engines["kind"] = engine
    return configured({"gateway": gateway, "engines": engines})
