"""`lorry up --model OWNER/NAME`: the model of a hub, pulled where it is not here yet."""

from __future__ import annotations

import getpass
from dataclasses import replace
from pathlib import Path

from gateway.errors import PullRefused, StartFailed
from gateway.models_settings import HubName
from gateway.pools.hub_ids import is_hub_id
from gateway.pools.pull import PullGround, pull, pull_order
from gateway.settings import Settings
from gateway.up.progress import MODEL, StartProgress
from hubs.errors import HubError
from hubs.fetching import Progress
from registry.database import Registry
from registry.errors import RegistryError
from registry.pulled.pulled_model import pulled_model
from registry.pulled.pulled_models import find_pulled, is_here


def with_pulled_model(settings: Settings, hub: HubName | None, registry: Registry, progress: StartProgress) -> Settings:
    """Return the settings with the model of the only pool pinned to its commit, pulled first if it is not here.

    `StartFailed` if it cannot be pulled. Settings whose pool names no id of a hub stay as they are.
    """
    (pool,) = settings.engines.pools
    asked = str(pool.base)
    if pool.base is None or not is_hub_id(asked):
        return settings
    progress.begin(MODEL, "looking for it")
    try:
        base = find_pulled(registry, asked, hub)
        if base is None or not is_here(registry, base):
            order = pull_order(asked, None, hub or settings.models.hub, getpass.getuser())
            ground = PullGround(
                registry=registry,
                settings=settings.models,
                folder=settings.models_folder,
                show=lambda fetched: _show(fetched, progress),
                say=progress.note,
            )
            base = pull(order, ground).base
    except (PullRefused, HubError, RegistryError) as exc:
        raise StartFailed(f"--model {exc}; for a folder of your own give its path, ./{asked}") from exc
    model = pulled_model(base.provenance)
    pinned = pool.model_copy(update={"base": Path(model.pinned if model else asked)})
    return replace(settings, engines=settings.engines.model_copy(update={"pools": (pinned,)}))


def _show(fetched: Progress, progress: StartProgress) -> None:
    while fetched.notes:
        progress.note(fetched.notes.pop(0))
    here = fetched.kept_bytes + fetched.received_bytes
    progress.begin(MODEL, "fetching it from its hub")
    progress.show_detail(MODEL, f", {here / 1e9:.2f} of {fetched.total_bytes / 1e9:.2f} GB")
