"""Each block of code in the pages is what its fence says, and is run by a test or gives a reason why not."""

from __future__ import annotations

import ast
import json
import subprocess
import tomllib
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import pytest
import yaml  # type: ignore[import-untyped]

from gateway.settings import engines_settings
from registry.settings import TABLES
from tests.pages import COMMANDS, PAGES, Block, blocks, name_of

NOT_RUN_FOR: Final[Mapping[str, int]] = {
    "changes this machine": 4,
    "downloads gigabytes": 3,
    "has a test of its own": 1,
    "minutes of measurement": 5,
    "needs a GPU": 3,
    "needs a PostgreSQL server": 1,
    "needs a further package": 1,
    "takes as long as a rollout": 1,
    "takes as long as all tests": 2,
    "the test has a Lorry already": 1,
    "there is no revision 7": 1,
}
"""Reasons why blocks of shell and Python are not run, and how many blocks have each."""
LEAST_RUN: Final = 10
"""Blocks of shell and Python that are run by `tests/scenarios/test_docs_run.py`; more are welcome."""
PROGRAMS: Final = ("lorry ", "curl ", "make ", "pip ", "python ", "export ", "sudo ", "client.", "import ")
"""Beginnings of lines that people copy into a shell or a program, so that their block has to say its language."""


def all_blocks() -> list[Block]:
    """Every block of every page."""
    return [block for page in PAGES for block in blocks(page)]


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
        assert tables.keys() <= {"steps", "every", "guardrails", "judge", "shadow_judge"}
        return
    assert tables.keys() <= set(TABLES)
    engines_settings(tables.get("engines", {}), {})


def check_yaml(block: Block) -> None:
    yaml.safe_load(block.text)


def check_shown(block: Block) -> None:
    assert [line for line in block.text.splitlines() if line.lstrip().startswith(PROGRAMS)] == []


CHECKS: Final[Mapping[str, Callable[[Block], None]]] = {
    "bash": check_bash,
    "python": check_python,
    "json": check_json,
    "jsonl": check_lines_of_json,
    "toml": check_toml,
    "yaml": check_yaml,
    "text": check_shown,
}
"""What is checked of the blocks of each language; a block of another one is a mistake."""


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_is_what_its_fence_says(page: Path) -> None:
    for block in blocks(page):
        assert block.language in CHECKS, f"{block.place}: ```{block.language}: name one of {', '.join(CHECKS)}"
        try:
            CHECKS[block.language](block)
        except (AssertionError, ValueError, SyntaxError) as exc:
            pytest.fail(f"{block.place}: {exc}", pytrace=False)


def test_every_block_of_commands_is_run_or_gives_a_known_reason() -> None:
    commands = [block for block in all_blocks() if block.language in COMMANDS]
    reasons = Counter(block.reason for block in commands if block.reason is not None)
    assert reasons == Counter(NOT_RUN_FOR)
    assert [block.place for block in commands if block.notes and not block.reason] == []
    assert len(commands) - reasons.total() >= LEAST_RUN
