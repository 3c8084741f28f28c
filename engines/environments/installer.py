"""uv, told to look where pip would: it installs in seconds what takes pip minutes, but reads none of pip's settings.

`python -m engines.environments.installer ARGUMENTS` is `uv pip install ARGUMENTS` into the environment of that Python.
Of the standard library only, but for uv itself, so that it can make the environment that Lorry runs in.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from uv import find_uv_bin

_PLACES: Final = ("global", "install", ":env:")
"""Where pip's settings may be, the last one first obeyed."""
_LISTS: Final = {
    "extra-index-url": "--extra-index-url",
    "find-links": "--find-links",
    "trusted-host": "--allow-insecure-host",
}
_VARIABLES: Final = {"cert": "SSL_CERT_FILE", "proxy": "ALL_PROXY"}


def install_command(python: Path) -> list[str]:
    """`uv pip install` into the environment of *python*, looking where the pip of our own Python would."""
    options = source_options(pip_settings())
    return [find_uv_bin(), "pip", "install", "--python", str(python), *options]


def install_environment() -> dict[str, str]:
    """What uv's process has on top of our environment."""
    settings = pip_settings()
    return {variable: settings[name] for name, variable in _VARIABLES.items() if name in settings}


def pip_settings() -> dict[str, str]:
    """pip's settings from its files and from the environment, by the name of the option."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "list"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return read_settings(told)


def read_settings(listed: str) -> dict[str, str]:
    """What `pip config list` printed, each option as the place says that pip obeys."""
    found: dict[str, dict[str, str]] = {place: {} for place in _PLACES}
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        place, _, name = key.partition(".")
        if place in found:
            found[place][name] = ast.literal_eval(value)
    return {name: value for place in _PLACES for name, value in found[place].items()}


def source_options(settings: Mapping[str, str]) -> list[str]:
    """uv's options for the places that pip looks at, the best version of them all taken as pip does."""
    options = ["--index-strategy", "unsafe-best-match"]
    if settings.get("no-index", "false").lower() in {"1", "true", "yes", "on"}:
        options.append("--no-index")
    if "index-url" in settings:
        options += ["--default-index", settings["index-url"]]
    for name, option in _LISTS.items():
        for value in settings.get(name, "").split():
            options += [option, value]
    return options


def main() -> None:
    """Become uv."""
    command = [*install_command(Path(sys.executable)), *sys.argv[1:]]
    os.execve(command[0], command, os.environ | install_environment())  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()
