"""uv looks where pip would look: pip's settings become uv's options."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from engines.environments.installer import read_settings, source_options
from tests.engines.environments.wheels import write_wheel

LISTED = """:env:.find-links='/env/wheels'
:env:.disable-pip-version-check='1'
global.find-links='/global/wheels'
global.index-url='https://global/simple'
global.extra-index-url='file:///one\\nfile:///two'
install.index-url='https://install/simple'
install.trusted-host='install'
download.index-url='https://download/simple'
"""


def test_a_setting_is_taken_from_the_place_that_pip_obeys_first() -> None:
    settings = read_settings(LISTED)
    assert settings["find-links"] == "/env/wheels"
    assert settings["index-url"] == "https://install/simple"


def test_every_place_that_pip_looks_at_is_an_option() -> None:
    options = source_options(read_settings(LISTED))
    assert options == [
        *("--index-strategy", "unsafe-best-match"),
        *("--default-index", "https://install/simple"),
        *("--extra-index-url", "file:///one"),
        *("--extra-index-url", "file:///two"),
        *("--find-links", "/env/wheels"),
        *("--allow-insecure-host", "install"),
    ]
    assert "--no-index" in source_options({"no-index": "true"})
    assert "--no-index" not in source_options({"no-index": "false"})


PROGRAM = """
import sys
from pathlib import Path
from engines.environments.installer import pip_command
print(*pip_command("install", Path(sys.argv[1])), sep="\\n")
"""


def test_a_wheel_that_only_pips_settings_lead_to_is_installed(tmp_path: Path) -> None:
    write_wheel(tmp_path, "hidden", "7", "")
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
    environment = os.environ | {"PIP_FIND_LINKS": str(tmp_path), "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}
    asked = [sys.executable, "-c", PROGRAM, str(python)]
    command = subprocess.run(asked, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()
    subprocess.run([*command, "hidden==7"], check=True)
    assert subprocess.run([python, "-I", "-c", "import hidden"], check=False).returncode == 0
