"""Wheels that tests make themselves, so that environments are built without a network."""

from __future__ import annotations

from pathlib import Path
from zipfile import ZipFile


def write_wheel(folder: Path, name: str, version: str, source: str, **files: str) -> str:
    """A wheel with one module, and files by name (`__` for the dot); returns its file name."""
    wheel = f"{name}-{version}-py3-none-any.whl"
    described = f"{name}-{version}.dist-info"
    contents = {
        f"{name}.py": source,
        **{file.replace("__", "."): text for file, text in files.items()},
        f"{described}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{described}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in [*contents, f"{described}/RECORD"])
    with ZipFile(folder / wheel, "w") as archive:
        for path, text in (contents | {f"{described}/RECORD": record}).items():
            archive.writestr(path, text)
    return wheel
