"""The rules for the blocks of code in the pages, by the language that their fence names."""

from __future__ import annotations

import ast
import json
import subprocess
import tomllib
from collections.abc import Callable, Mapping
from typing import Final

import yaml

from gateway.engines_settings import engines_settings
from registry.settings import TABLES
from tests.pages import Block

PROGRAMS: Final = ("lorry ", "curl ", "make ", "pip ", "python ", "export ", "sudo ", "client.", "import ")
"""Beginnings of lines that people copy into a shell or a program, so that their block has to say its language."""


def check_bash(block: Block) -> None:
    told = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr


def check_python(block: Block) -> None:
    ast.parse(block.text)


def check_json(block: Block) -> None:
    json.loads(block.text)


def check_lines_of_json(block: Block) -> None:
    for line in block.text.splitlines():
        json.loads(line)


def check_toml(block: Block) -> None:
    """The tables are settings that the loader takes, or the plan of a rollout."""
    tables = tomllib.loads(block.text)
    if "steps" in tables:
        assert tables.keys() <= {"steps", "every", "guardrails", "judge", "shadow_judge", "gate"}
        return
    assert tables.keys() <= set(TABLES)
    engines_settings(tables.get("engines", {}), {})


def check_yaml(block: Block) -> None:
    yaml.safe_load(block.text)


def check_js(block: Block) -> None:
    """Only running it shows more, which needs an environment."""
    assert block.environment is not None or block.reason is not None


def check_shown(block: Block) -> None:
    assert [line for line in block.text.splitlines() if line.lstrip().startswith(PROGRAMS)] == []


CHECKS: Final[Mapping[str, Callable[[Block], None]]] = {
    "bash": check_bash,
    "python": check_python,
    "json": check_json,
    "jsonl": check_lines_of_json,
    "toml": check_toml,
    "yaml": check_yaml,
    "js": check_js,
    "text": check_shown,
}
"""The check for the blocks of each language; a block of another one is a mistake."""
