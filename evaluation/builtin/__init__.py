"""The suites that ship with Lorry, as JSONL beside this file. A changed row changes the suite's digest."""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from evaluation.errors import SuiteInvalid
from evaluation.suite import Suite
from evaluation.suite_files import parse_suite
from registry.wording.suggestions import meant_or_known

BUILTIN: Final = "builtin:"
NAMES: Final = ("core", "arithmetic", "formats", "facts", "conduct")


def builtin_suite(name: str) -> Suite:
    """Return the built-in suite of this name. `SuiteInvalid` lists the names."""
    if name not in NAMES:
        raise SuiteInvalid(f"there is no built-in suite {name[:64]!r}{meant_or_known(name, NAMES)}")
    file = f"{name}.jsonl"
    return parse_suite(file, files("evaluation.builtin").joinpath(file).read_bytes())
