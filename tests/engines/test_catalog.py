"""A kind of engine is its driver, its row and its tests: the row answers every question, and nothing else names it."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engines.catalog import ADDRESS_FIELDS, ENGINES, ENVIRONMENTS, code_of, kind_of, load_reader
from engines.environments.pinned_list import VARIANTS, list_path
from engines.errors import UnknownEngine
from engines.kinds import DEFAULT_KIND, Vendor, Workload
from engines.settings import EngineSettings

ROOT = Path(__file__).parents[2]
ROWS = ("engines/catalog.py", "engines/kinds.py")
HEAVY = ("torch", "transformers", "fastapi", "pydantic", "prometheus_client", "httpx2")


def named_kinds(path: Path) -> Iterator[str]:
    """The kinds that a file names as a string of its own."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and node.value in ENGINES:
            yield str(node.value)


@pytest.mark.long
def test_nothing_but_its_row_and_its_driver_names_a_kind() -> None:
    strays = {
        f"{name}: {kind}"
        for package in ("gateway", "engines")
        for path in (ROOT / package).rglob("*.py")
        if (name := path.relative_to(ROOT).as_posix()) not in ROWS
        for kind in named_kinds(path)
        if name != f"engines/drivers/{kind}.py"
    }
    assert sorted(strays) == []


@pytest.mark.parametrize("kind", ENGINES)
def test_a_row_answers_every_question(kind: str) -> None:
    row = kind_of(kind)
    driver = f"engines.drivers.{kind}:"
    particular = [row.builder, row.load.reader, *filter(None, [row.path_reader])]
    assert all(reference.startswith(driver) for reference in particular)
    assert all(callable(code_of(reference)) for reference in particular)
    assert callable(load_reader(kind))
    assert row.adapter_paths <= row.paths
    assert row.paths
    assert set(row.unhonoured) <= EngineSettings.model_fields.keys()
    assert row.hardware.cpu_precisions
    assert bool(row.hardware.vendors) == bool(row.hardware.device_precisions)
    assert all(list_path(kind, variant).is_file() for variant in VARIANTS if kind in ENVIRONMENTS)


def test_every_function_that_a_row_names_is_asynchronous_where_it_asks_a_server() -> None:
    for row in ENGINES.values():
        assert not inspect.iscoroutinefunction(code_of(row.load.reader))
        assert row.path_reader is None or inspect.iscoroutinefunction(code_of(row.path_reader))


@pytest.mark.parametrize("vendor", [None, *Vendor])
@pytest.mark.parametrize("workload", Workload)
def test_some_kind_is_preferred_on_every_machine(vendor: Vendor | None, workload: Workload) -> None:
    found = [p for row in ENGINES.values() for p in row.hardware.preferences if vendor in p.on]
    assert any(workload in preference.workloads and preference.adapters is None for preference in found)


def test_the_kind_that_is_served_unasked_needs_no_environment() -> None:
    assert DEFAULT_KIND in ENGINES
    assert DEFAULT_KIND not in ENVIRONMENTS


def test_the_fields_that_name_an_adapter_are_those_of_all_rows() -> None:
    assert set(ADDRESS_FIELDS) == {"model", "lora_path"}


def test_an_unknown_kind_lists_those_that_exist() -> None:
    with pytest.raises(UnknownEngine, match=r"'steam' is not one of \['lmdeploy'"):
        kind_of("steam")


def test_looking_up_a_kind_imports_no_engine_and_no_library() -> None:
    program = f"import sys, engines.catalog; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""
