"""uv with pip's settings: it installs in seconds what takes pip minutes, but reads none of them by itself.

`python -m engines.environments.installer ARGUMENTS` is `uv pip install ARGUMENTS` into the environment of that Python,
or, where they begin with `--python PATH`, of another one.
Imports nothing but uv and the standard library, because `make venv` runs it before anything else is installed.
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
"""Places of pip's settings; a later place goes over an earlier one."""
_LISTS: Final = {
    "extra-index-url": "--extra-index-url",
    "find-links": "--find-links",
    "trusted-host": "--allow-insecure-host",
}
_VARIABLES: Final = {"cert": "SSL_CERT_FILE", "proxy": "ALL_PROXY"}


def venv_command(folder: Path) -> list[str]:
    """Return the command that makes an empty virtual environment of our own Python."""
    return [find_uv_bin(), "venv", "--no-project", "--python", sys.executable, str(folder)]


def pip_command(verb: str, python: Path) -> list[str]:
    """Return `uv pip VERB` for the environment of *python*, looking where the pip of our own Python would."""
    options = source_options(pip_settings())
    return [find_uv_bin(), "pip", verb, "--python", str(python), *options]


def uv_variables() -> dict[str, str]:
    """Return what uv's process has on top of our environment."""
    settings = pip_settings()
    return {variable: settings[name] for name, variable in _VARIABLES.items() if name in settings}


def pip_settings() -> dict[str, str]:
    """Return pip's settings from its files and from the environment, by the name of the option."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return read_settings(listed)


def read_settings(listed: str) -> dict[str, str]:
    """Read what `pip config list` printed: each option from the place that pip obeys."""
    found: dict[str, dict[str, str]] = {place: {} for place in _PLACES}
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        place, _, name = key.partition(".")
        if place in found:
            found[place][name] = ast.literal_eval(value)
    return {name: value for place in _PLACES for name, value in found[place].items()}


def source_options(settings: Mapping[str, str]) -> list[str]:
    """Return uv's options for the places that pip looks at; of all of them the best version is installed, as by pip."""
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
    """Replace this process by uv."""
    arguments, python = sys.argv[1:], Path(sys.executable)
    if arguments[:1] == ["--python"]:
        python, arguments = Path(arguments[1]), arguments[2:]
    command = [*pip_command("install", python), *arguments]
    os.execve(command[0], command, os.environ | uv_variables())  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()
