"""Which files of a folder make an adapter. No library is imported, because the `lorry` command chooses by this too."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from registry.errors import AdapterRejected

CONFIG: Final = "adapter_config.json"
WEIGHTS: Final = "adapter_model.safetensors"
NEEDED: Final = (CONFIG, WEIGHTS)

MOST_NAMED: Final = 20
"""Names of a folder that one message lists."""
LONGEST_NAME: Final = 100

_MORE_WEIGHTS: Final = re.compile(r"new_embeddings\.\w+|adapter_model-.*|adapter_model\.\w+\.index\.json")
_PICKLED: Final = re.compile(r"adapter_model\.(bin|ckpt|pkl|pickle|pt|pth)")
_CHECKPOINT: Final = re.compile(r"checkpoint-\d+/")


def top_names(folder: Path) -> list[str]:
    """Return the entries of *folder*, links followed; folders end with "/". `AdapterRejected` if there is no folder."""
    try:
        return sorted(f"{path.name}/" if path.is_dir() else path.name for path in folder.iterdir())
    except OSError as exc:
        raise AdapterRejected(f"{folder} is not a folder that can be read: {exc.strerror}") from exc


def left_out(names: Iterable[str]) -> list[str]:
    """Return the entries of an adapter's folder that are not part of the adapter; folders in *names* end with "/".

    `AdapterRejected` without config and weights, or with a file that the adapter would compute something else without.
    """
    found = sorted(set(names))
    for name in found:
        if _MORE_WEIGHTS.fullmatch(name):
            raise AdapterRejected(
                f"{name}: weights beside {WEIGHTS}, which no engine serves; only {WEIGHTS} may be there"
            )
    for name in NEEDED:
        if name not in found:
            raise AdapterRejected(_missing(name, found))
    return [name for name in found if name not in NEEDED]


def list_names(names: Iterable[str]) -> str:
    """Return *names* for a message: printable, not too long, and not too many."""
    every = list(names)
    shown = [cut_name(name) for name in every[:MOST_NAMED]]
    more = f" and {len(every) - MOST_NAMED} more" if len(every) > MOST_NAMED else ""
    return ", ".join(shown) + more


def cut_name(name: str) -> str:
    """Return *name*, which anybody may have chosen, as a message can show it."""
    plain = name if name.isprintable() else ascii(name)[1:-1]
    return plain if len(plain) <= LONGEST_NAME else f"{plain[:LONGEST_NAME]}..."


def _missing(name: str, found: list[str]) -> str:
    pickled = [other for other in found if _PICKLED.fullmatch(other)]
    if name == WEIGHTS and pickled:
        return (
            f"{pickled[0]}: may run code when it is loaded; only safetensors weights are accepted: load the adapter "
            f"with PEFT and save it anew, which writes {WEIGHTS}"
        )
    hint = ""
    inner = [other for other in found if other.endswith("/")]
    if checkpoints := [other for other in inner if _CHECKPOINT.fullmatch(other)]:
        hint = f"; each of {list_names(checkpoints)} may be the folder of an adapter"
    elif len(found) == len(inner) == 1:
        hint = "; the files of the adapter must not be in a folder of their own"
    return f"{name}: missing; the folder has {list_names(found) or 'no files'}{hint}"
