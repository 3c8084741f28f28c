"""Table `[models]` of the settings: where pulled models lie, and which ones may be pulled."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, PositiveInt

from registry.wording.known_fields import KnownFields

HubName = Literal["huggingface", "modelscope"]


class ModelsSettings(KnownFields):
    """Table `[models]`: models from hubs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: Path | None = None
    """Folder of pulled models; None is `models` in LORRY_HOME."""
    hub: HubName = "huggingface"
    """The hub that is asked where a command names none."""
    organisations: tuple[str, ...] | None = None
    """Owners on a hub whose models may be pulled, as `Qwen`; None allows all."""
    licences: tuple[str, ...] | None = None
    """Licences whose models may be pulled, as the hub writes them (`apache-2.0`); None allows all."""
    files_at_a_time: PositiveInt = 4
    """Files that a pull fetches at a time."""
