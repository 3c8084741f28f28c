"""The environment of a tool, as `lorry envs install` built it. Its record is a contract with `engines.environments`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from registry.settings import lorry_home
from trainer.errors import JobFailed

_STATE_FILE: Final = "lorry-environment.json"


def tool_interpreter(name: str) -> Path:
    """Return the Python of the tool's environment; `JobFailed` names the command that builds one."""
    folder = lorry_home() / "envs" / name
    try:
        record = json.loads((folder / _STATE_FILE).read_bytes())
    except (FileNotFoundError, ValueError):
        record = {}
    if not isinstance(record, dict) or record.get("version") is None:
        raise JobFailed(
            "tool_missing", f"there is no whole environment for {name} in {folder}; run `lorry envs install {name}`"
        )
    return folder / "bin" / "python"
