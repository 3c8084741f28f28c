"""Which package may import which, where the heavy libraries may appear, and how long files and functions may be."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
LONGEST_FILE: Final = 500
LONGEST_FUNCTION: Final = 60

PACKAGES: Final[Mapping[str, frozenset[str]]] = {
    "registry": frozenset(),
    "engines": frozenset(),
    "gateway": frozenset({"registry", "engines"}),
    "trainer": frozenset({"registry"}),
}
"""Our packages, and which of the others each may import."""

TRAINING_AND_INFERENCE: Final = ("trainer/recipes/*", "trainer/data/dataset.py", "engines/transformers/*")

LIBRARIES: Final[Mapping[str, tuple[str, ...]]] = {
    "alembic": ("registry/*",),
    "sqlalchemy": ("registry/*",),
    "fastapi": ("gateway/*", "engines/transformers/*"),
    "torch": TRAINING_AND_INFERENCE,
    "peft": TRAINING_AND_INFERENCE,
    "transformers": (*TRAINING_AND_INFERENCE, "gateway/pools/gguf_to_folder.py"),
    "ray": ("gateway/up/*",),
    "vllm": (),
    "sglang": (),
    "lmdeploy": (),
}
"""Heavy libraries, and the files that may import them."""

LIGHT: Final = (
    "gateway.app",
    "gateway.cli",
    "engines.catalog",
    "engines.replica.replica",
    "registry.publishing.publish",
)
"""Modules whose import loads no engine, no training and no Ray."""
HEAVY: Final = ("torch", "transformers", "ray", "vllm", "peft")


def sources(*folders: str) -> list[Path]:
    """Every file of ours below *folders*."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported(path: Path) -> Iterator[str]:
    """The first parts of the absolute names that a file imports anywhere, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module is not None:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_those_below_it(package: str) -> None:
    foreign = PACKAGES.keys() - PACKAGES[package] - {package}
    found = {f"{name_of(path)}: {name}" for path in sources(package) for name in imported(path) if name in foreign}
    assert sorted(found) == []


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_heavy_library_stays_where_it_belongs(library: str) -> None:
    users = {name_of(path) for path in sources(*PACKAGES) if library in imported(path)}
    strays = [user for user in users if not any(fnmatch(user, allowed) for allowed in LIBRARIES[library])]
    assert sorted(strays) == []


@pytest.mark.parametrize("module", LIGHT)
def test_importing_it_loads_no_heavy_library(module: str) -> None:
    program = f"import sys, {module}; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout.strip()) == (0, ""), run.stderr


def test_no_file_and_no_function_is_too_long_to_be_read_at_once() -> None:
    long = []
    for path in sources(*PACKAGES, "tests"):
        text = path.read_text()
        if text.count("\n") > LONGEST_FILE:
            long.append(f"{name_of(path)} has {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > LONGEST_FUNCTION:
                    long.append(f"{name_of(path)}:{node.lineno} {node.name} has {lines} lines")
    assert long == []


def test_every_package_is_installed() -> None:
    found = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]
    assert sorted(found["include"]) == [f"{package}*" for package in sorted(PACKAGES)]
    folders = {path.parent for path in sources(*PACKAGES)}
    assert sorted(name_of(folder) for folder in folders if not (folder / "__init__.py").exists()) == []
