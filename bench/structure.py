"""Print how the code is laid out: files by folder, imports between rooms, class names, words.

    python bench/structure.py [CHECKOUT]

A room is a folder, or a file that lies directly in its package. An arrow is an import of a file by a file of another
room of the same package. Which way arrows may run, tests/test_architecture.py holds.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

PACKAGES: Final = ("gateway", "engines", "registry", "trainer")
VAGUE: Final = ("It", "Its", "One", "Of", "Those", "What")
TOLD: Final = re.compile(r"\b(?:told|said|tells?|says?|hears?|heard)\b", re.IGNORECASE)


def main(checkout: Path) -> None:
    """Print the figures of *checkout*."""
    trees = {path: ast.parse(path.read_text()) for name in PACKAGES for path in sorted((checkout / name).rglob("*.py"))}
    modules = {name_of(path, checkout): path for path in trees}
    counts = Counter(path.parent.relative_to(checkout).as_posix() for path in trees)
    print(f"{len(trees)} files in {len(counts)} folders; fullest:", dict(counts.most_common(4)))
    for package in PACKAGES:
        arrows = Counter(arrows_in(package, trees, modules))
        print(
            f"{package}: {sum(arrows.values())} arrows between {len({room for pair in arrows for room in pair})} rooms"
        )
    names = Counter(node.name for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    print("class names defined more than once:", sorted(name for name, count in names.items() if count > 1))
    methods = Counter(name for tree in trees.values() for name in set(methods_of(tree)))
    print("files that define a method called", {name: methods[name] for name in ("take", "settle", "left", "tell")})
    docstrings = [text for tree in trees.values() for text in docstrings_of(tree)]
    print(
        f"{sum(text.split()[0] in VAGUE for text in docstrings if text.split())} of {len(docstrings)} docstrings "
        f"begin with one of {', '.join(VAGUE)}"
    )
    lines = [line for path in trees for line in path.read_text().splitlines()]
    print(
        f"{len(lines)} lines, {sum(line.lstrip().startswith('#') for line in lines)} of them comments, "
        f"{sum(len(TOLD.findall(text)) for text in docstrings)} uses of say, tell and hear in docstrings"
    )


def arrows_in(package: str, trees: dict[Path, ast.Module], modules: dict[str, Path]) -> Iterator[tuple[str, str]]:
    """Yield two rooms for each import of a file of *package* by a file of another of its rooms."""
    named = {path: name for name, path in modules.items() if name.split(".")[0] == package}
    for path, here in named.items():
        for there in imported(trees[path], modules):
            if modules[there] in named and room_of(here) != room_of(there):
                yield room_of(here), room_of(there)


def room_of(module: str) -> str:
    """Return the first two parts of a module's name."""
    return ".".join(module.split(".")[:2])


def name_of(path: Path, checkout: Path) -> str:
    """Return the dotted name of a file; a package's own file goes by the name of its folder."""
    return ".".join(path.relative_to(checkout).with_suffix("").parts).removesuffix(".__init__")


def imported(tree: ast.Module, modules: dict[str, Path]) -> Iterator[str]:
    """Yield the names among *modules* that a file imports, each once."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            inner = {f"{node.module}.{alias.name}" for alias in node.names} & modules.keys()
            found |= inner or {node.module}
    yield from found & modules.keys()


def methods_of(tree: ast.Module) -> Iterator[str]:
    """Yield the names of the methods that a file's classes define."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield from (each.name for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef))


def docstrings_of(tree: ast.Module) -> Iterator[str]:
    """Yield every docstring of a file, those of fields included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.value.value


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
