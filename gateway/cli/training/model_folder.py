"""The folder of a base model that a command without a gateway is given: a path, or a name that can be looked up."""

from __future__ import annotations

from pathlib import Path

from gateway.cli.client import Client
from gateway.cli.errors import CommandFailed
from gateway.engines_settings import BUNDLED_BASE
from gateway.objects.bases import BaseModelObject
from gateway.objects.lists import ObjectList
from registry.settings import lorry_home


def model_folder(model: str) -> Path:
    """Return the folder of *model*: its path, the bundled model's, or that of an entered one, by the gateway."""
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    if model == BUNDLED_BASE and (unpacked := lorry_home() / "cache" / model).is_dir():
        return unpacked
    if folder.is_absolute() or model.startswith((".", "~")):
        raise CommandFailed(f"--model {model}: no such folder")
    try:
        with Client() as client:
            bases = client.get("/admin/bases", ObjectList[BaseModelObject]).data
    except CommandFailed as exc:
        raise CommandFailed(f"--model {model}: no such folder, and no gateway knows the name: {exc}") from exc
    path = next((Path(base.path) for base in bases if base.name == model), None)
    if path is None:
        names = ", ".join(sorted(base.name for base in bases)) or "none"
        raise CommandFailed(f"--model {model}: no such folder, and no base model is called so; there are {names}")
    if not path.is_dir():
        raise CommandFailed(f"--model {model}: its folder {path} is not on this machine; give a folder that is")
    return path
