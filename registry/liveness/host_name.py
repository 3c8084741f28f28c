"""The name by which processes of one Lorry on one machine know their own from all others in the registry."""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
from contextlib import suppress
from pathlib import Path
from typing import Final

_FILE: Final = "host.id"
_READABLE: Final = 24
_DIGITS: Final = 12
_MACHINE_FILES: Final = ("/etc/machine-id", "/var/lib/dbus/machine-id")


def host_name(home: Path | None = None) -> str:
    """Return the beginning of the host's name, for people, and 48 bits of a digest that no other host has.

    The digest is that of the whole name, the machine's id, and a random number that is made once in *home*: pods whose
    names begin alike differ by the name, machines of one name by the id, two Lorrys of a machine by their homes. The
    name stays after a restart with the same home. Raises `OSError` where *home* cannot be written.
    """
    parts = (socket.gethostname(), _machine_id(), "" if home is None else _number_in(home))
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    return f"{parts[0][:_READABLE]}-{digest[:_DIGITS]}"


def _machine_id() -> str:
    for path in _MACHINE_FILES:
        with suppress(OSError):
            return Path(path).read_text().strip()
    return ""


def _number_in(home: Path) -> str:
    """Return the random number of *home*; of processes that begin at once, all get the one that was first."""
    path = home / _FILE
    with suppress(FileNotFoundError):
        return path.read_text()
    home.mkdir(parents=True, exist_ok=True)
    staged = home / f".{_FILE}-{os.getpid()}-{secrets.token_hex(4)}"
    staged.write_text(secrets.token_hex(16))
    # A link appears with its contents and replaces nothing.
    with suppress(FileExistsError):
        os.link(staged, path)
    staged.unlink()
    return path.read_text()
