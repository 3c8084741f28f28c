"""Which package and room may import which, where heavy libraries may appear, how long files and functions may be."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
LONGEST_FILE: Final = 500
LONGEST_FUNCTION: Final = 60

PACKAGES: Final[Mapping[str, frozenset[str]]] = {
    "registry": frozenset(),
    "conversations": frozenset(),
    "engines": frozenset({"conversations"}),
    "graders": frozenset({"registry"}),
    "hubs": frozenset(),
    "corpus": frozenset({"registry", "conversations", "hubs"}),
    "exports": frozenset({"registry"}),
    "estimates": frozenset({"registry", "engines"}),
    "evaluation": frozenset({"registry", "graders", "corpus"}),
    "gateway": frozenset({"registry", "engines", "graders", "estimates", "corpus", "evaluation", "exports", "hubs"}),
    "trainer": frozenset({"registry", "graders", "conversations", "corpus", "exports"}),
}
"""Our packages, and which of the others each may import."""

ROOMS: Final[Mapping[str, tuple[str, ...]]] = {
    "gateway": (
        "cli",
        "up",
        "app",
        "endpoints",
        "http",
        "admin",
        "openai",
        "evaluations",
        "deps batches reports",
        "edge",
        "dialects evidence keys",
        "telemetry rollouts",
        "wire balancing pools",
        "routing",
    ),
    "conversations": ("chat_template", "hermes"),
    "engines": ("replica proving transformers", "drivers environments hardware"),
    "estimates": (
        "training serving asked usual",
        "training_time",
        "training_phases",
        "training_memory row_lengths",
        "data_shape devices",
        "model_config",
        "linears",
    ),
    "corpus": (
        "__main__ review_sheet",
        "examination",
        "reporting page",
        "findings_joined excerpts",
        "chunk converting duplicates",
        "chat_tokens findings forms sources row_view",
    ),
    "exports": ("uploads", "bundles", "card checking folder gguf ollama"),
    "hubs": ("catalog fetching", "hugging_face modelscope hashes model_files"),
    "evaluation": ("page builtin", "suite_files", "suite scores", "checks statistics"),
    "graders": ("grading runs", "sandbox model_questions similarity http_models"),
    "registry": (
        "lineage",
        "publishing backups pulled",
        "database",
        "schema migrations",
        "jobs",
        "contracts",
        "rollouts responses",
    ),
    "trainer": (
        "__main__",
        "placed",
        "worker",
        "attempt resident_process",
        "prepare runner progress_writer publication child",
        "recipes hand_over tracking",
        "training reproduction faults ranks quantizing",
        "data scoring order progress checkpoints devices",
    ),
}
"""The floors of each package from the roof down, each with its rooms or files; what is not listed is the ground.

Imports go down only: rooms on one floor do not know each other.
"""
BESIDE: Final = frozenset({"studies", "bench", "tests"})
"""Folders that import the product, which imports none of them."""
MOST_FILES: Final = 20
GROWING: Final = frozenset({"registry/migrations/versions"})
"""Folders to which every release adds, and from which nothing can be taken away."""

TRAINING_AND_INFERENCE: Final = (
    "trainer/recipes/*",
    "trainer/training/*",
    "trainer/data/*",
    "trainer/scoring/*",
    "trainer/quantizing/*",
    "engines/transformers/*",
    "exports/checking/*",
)

LIBRARIES: Final[Mapping[str, tuple[str, ...]]] = {
    "alembic": ("registry/*",),
    "sqlalchemy": ("registry/*",),
    "fastapi": ("gateway/*", "engines/transformers/*"),
    "torch": TRAINING_AND_INFERENCE,
    "peft": TRAINING_AND_INFERENCE,
    "transformers": (*TRAINING_AND_INFERENCE, "gateway/pools/gguf_to_folder.py"),
    "ray": ("gateway/up/*", "trainer/ranks/*", "trainer/placed/*"),
    "deepspeed": ("trainer/training/together/zero.py",),
    "llmcompressor": ("trainer/quantizing/*",),
    "vllm": ("engines/in_environment/lorry_vllm_rank.py",),
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
"""Modules whose import loads no engine, no training, no Ray and no client of Redis."""
HEAVY: Final = ("torch", "transformers", "ray", "vllm", "peft", "redis", "huggingface_hub", "modelscope_hub")


def sources(*folders: str) -> list[Path]:
    """Every file of ours below *folders*."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """The facts about one file that the rules are about; its syntax tree would take a hundred times as much memory."""

    lines: int
    imports: frozenset[tuple[str, tuple[str, ...]]]
    """Absolute modules that are imported anywhere, inside functions too, each with the names that are taken from it."""
    functions: tuple[tuple[str, int, int], ...]
    """Name, first line and number of lines of each function."""


@cache
def facts_of(path: Path) -> FileFacts:
    text = path.read_text()
    imports: set[tuple[str, tuple[str, ...]]] = set()
    functions = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            imports |= {(alias.name, ()) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module is not None:
            imports.add((node.module, tuple(alias.name for alias in node.names)))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            functions.append((node.name, node.lineno, (node.end_lineno or node.lineno) - node.lineno + 1))
    return FileFacts(lines=text.count("\n"), imports=frozenset(imports), functions=tuple(functions))


def imported(path: Path) -> frozenset[str]:
    """Return the first parts of the absolute names that a file imports anywhere, inside functions too."""
    return frozenset(module.split(".")[0] for module, _ in facts_of(path).imports)


@pytest.mark.long
@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_those_below_it(package: str) -> None:
    foreign = PACKAGES.keys() - PACKAGES[package] - {package}
    found = {f"{name_of(path)}: {name}" for path in sources(package) for name in imported(path) if name in foreign}
    assert sorted(found) == []


def modules_of(package: str) -> dict[str, Path]:
    """Every module of *package* by its dotted name; a package by the name of its folder."""
    named = {name_of(path.with_suffix("")).replace("/", "."): path for path in sources(package)}
    return {name.removesuffix(".__init__"): path for name, path in named.items()}


@cache
def imports_within(package: str) -> dict[str, set[str]]:
    """For every module of *package* the others of it that it imports anywhere."""
    modules = modules_of(package)
    found: dict[str, set[str]] = {name: set() for name in modules}
    for name, path in modules.items():
        for module, taken in facts_of(path).imports:
            inner = {f"{module}.{each}" for each in taken} & modules.keys()
            found[name] |= inner or {module} & modules.keys()
    return found


def room_of(module: str) -> str:
    """The room of a module, or its own name where it lies in no room."""
    return module.split(".")[1] if "." in module else ""


@pytest.mark.parametrize("package", PACKAGES)
def test_a_room_imports_only_those_on_lower_floors(package: str) -> None:
    floors = {room: number for number, floor in enumerate(ROOMS[package]) for room in floor.split()}
    ground = len(ROOMS[package])
    upward = set()
    for module, imports in imports_within(package).items():
        for other in imports:
            here, there = room_of(module), room_of(other)
            low, high = floors.get(there, ground), floors.get(here, ground)
            if here != there and (low < high or (low == high and low != ground)):
                upward.add(f"{module}: {other}")
    assert sorted(upward) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_every_listed_room_is_there(package: str) -> None:
    rooms = {room_of(module) for module in modules_of(package)}
    assert sorted({room for floor in ROOMS[package] for room in floor.split()} - rooms) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_no_files_import_each_other_in_a_circle(package: str) -> None:
    TopologicalSorter(imports_within(package)).prepare()  # raises CycleError, which names the circle


def test_the_product_imports_no_study_no_benchmark_and_no_test() -> None:
    found = {f"{name_of(path)}: {name}" for path in sources(*PACKAGES) for name in imported(path) if name in BESIDE}
    assert sorted(found) == []


def test_no_folder_is_too_full_to_be_looked_over() -> None:
    counts = Counter(name_of(path.parent) for path in sources(*PACKAGES, *BESIDE - {"tests"}))
    assert {folder: count for folder, count in counts.items() if count > MOST_FILES and folder not in GROWING} == {}


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_heavy_library_stays_where_it_belongs(library: str) -> None:
    users = {name_of(path) for path in sources(*PACKAGES) if library in imported(path)}
    strays = [user for user in users if not any(fnmatch(user, allowed) for allowed in LIBRARIES[library])]
    assert sorted(strays) == []


@pytest.mark.long
@pytest.mark.parametrize("module", LIGHT)
def test_importing_it_loads_no_heavy_library(module: str) -> None:
    program = f"import sys, {module}; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout.strip()) == (0, ""), run.stderr


@pytest.mark.long
def test_no_file_and_no_function_is_too_long_to_be_read_at_once() -> None:
    long = []
    for path in sources(*PACKAGES, *BESIDE):
        facts = facts_of(path)
        if facts.lines > LONGEST_FILE:
            long.append(f"{name_of(path)} has {facts.lines} lines")
        for name, line, lines in facts.functions:
            if lines > LONGEST_FUNCTION:
                long.append(f"{name_of(path)}:{line} {name} has {lines} lines")
    assert long == []


def test_every_package_is_installed() -> None:
    found = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]
    assert sorted(found["include"]) == [f"{package}*" for package in sorted(PACKAGES)]
    folders = {path.parent for path in sources(*PACKAGES)}
    assert sorted(name_of(folder) for folder in folders if not (folder / "__init__.py").exists()) == []
