"""Write the SHA-256 hashes of every pinned version into lists of pins: `make pins`, after a version has changed.

A pin is a line `NAME==VERSION`, with or without hashes. Every other line stays as it is. The hashes are those of all
files of that version in the public index and at the other places where pip looks: one list serves every platform. A
local build such as `torch==2.13.0+cpu` satisfies the pin of its public version: its hash is listed too.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from packaging.utils import canonicalize_name, parse_wheel_filename

from engines.environments.installer import pip_command, pip_settings, uv_variables

_PIN: Final = re.compile(r"^(?P<pin>[A-Za-z0-9._-]+==[^\s\\;]+)")
_HASH: Final = re.compile(r"--hash=(sha256:[0-9a-f]{64})")
_OWN_PLACES: Final = {"--find-links", "--extra-index-url"}


def main() -> None:
    """Rewrite each list that the arguments name."""
    for name in sys.argv[1:]:
        path = Path(name)
        pins = pins_of(path.read_text())
        path.write_text(with_hashes(path.read_text(), hashes_of(list(pins))))
        print(f"{path}: {len(pins)} versions")  # noqa: T201


def pins_of(text: str) -> dict[str, list[str]]:
    """Return each pin of a list with the hashes that follow it."""
    found: dict[str, list[str]] = {}
    pin = ""
    for line in text.splitlines():
        match = _PIN.match(line)
        pin = match["pin"] if match else pin
        if pin and not line.startswith("#"):
            found.setdefault(pin, []).extend(_HASH.findall(line))
    return found


def with_hashes(text: str, hashes: dict[str, set[str]]) -> str:
    """Return *text* with the given hashes below each pin, in place of those that it had."""
    lines: list[str] = []
    for line in text.splitlines():
        if line.lstrip().startswith("--hash="):
            continue
        match = _PIN.match(line)
        below = sorted(hashes[match["pin"]]) if match else []
        lines.append(" \\\n    ".join([match["pin"] if match else line, *(f"--hash={value}" for value in below)]))
    return "\n".join(lines) + "\n"


def hashes_of(pins: list[str]) -> dict[str, set[str]]:
    """Collect the hashes of *pins* from the indexes and from folders of wheels; the process ends if a pin has none."""
    command = pip_command("compile", Path(sys.executable))
    public = [word for at, word in enumerate(command) if not {word, command[at - 1]} & _OWN_PLACES]
    by_name = {_normal(pin): pin for pin in pins}
    found: dict[str, set[str]] = {pin: set() for pin in pins}
    for listed in (_from_index(command, pins), _from_index(public, pins), _from_folders()):
        for name, hashes in listed.items():
            if name in by_name:
                found[by_name[name]] |= hashes
    without = [pin for pin in pins if not found[pin]]
    if without:
        sys.exit(f"no index has hashes of {', '.join(without)}")
    return found


def _from_index(command: list[str], pins: list[str]) -> dict[str, set[str]]:
    """Run uv over *pins*, without their dependencies, and return the hashes that it found by normalised pin."""
    with tempfile.TemporaryDirectory() as folder:
        asked, answer = Path(folder, "pins.in"), Path(folder, "pins.txt")
        asked.write_text("\n".join(pins) + "\n")
        options = ["--no-deps", "--generate-hashes", "--no-annotate", "--no-header", "--quiet", "-o", str(answer)]
        subprocess.run([*command, *options, str(asked)], env=os.environ | uv_variables(), check=True)
        return {_normal(pin): set(hashes) for pin, hashes in pins_of(answer.read_text()).items()}


def _from_folders() -> dict[str, set[str]]:
    """Return the hashes of the wheels in pip's `find-links` folders by normalised pin."""
    found: dict[str, set[str]] = {}
    for folder in pip_settings().get("find-links", "").split():
        for wheel in Path(folder).glob("*.whl"):
            name, version, *_ = parse_wheel_filename(wheel.name)
            with wheel.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            found.setdefault(f"{name}=={version.public}", set()).add(f"sha256:{digest}")
    return found


def _normal(pin: str) -> str:
    """Return *pin* with its name as indexes normalise it and without the label of a local build."""
    name, _, version = pin.partition("==")
    return f"{canonicalize_name(name)}=={version.partition('+')[0]}"


if __name__ == "__main__":
    main()
