"""The Markdown of this repository, parsed as its readers see it: headings, links, and blocks of code."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT: Final = Path(__file__).parents[1]
PAGES: Final = (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")), ROOT / "deploy" / "README.md")
NOT_RUN: Final = "not-run:"
"""The beginning of the reason in the line that opens a block of shell or Python which the tests do not run."""
ELSEWHERE: Final = "in:"
"""The beginning of the name of the environment in whose client a block runs, by `tests/scenarios/test_clients.py`."""
RUNNABLE: Final = ("bash", "python")
"""Languages whose blocks are run unless they give a reason why not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A block of code of a page, as the fence that opens it describes it."""

    page: Path
    line: int
    """Number of the line of its fence, from 1."""
    language: str
    notes: str
    """The words after the language in the fence's line."""
    text: str

    @property
    def place(self) -> str:
        """Where the block is, for people."""
        return f"{name_of(self.page)}:{self.line}"

    @property
    def reason(self) -> str | None:
        """Why the block is not run; None where it is to run."""
        _, mark, reason = self.notes.partition(NOT_RUN)
        return reason.strip() if mark else None

    @property
    def environment(self) -> str | None:
        """Name in `deploy/sdks/` of the environment that the block runs in; None for Lorry's own."""
        _, mark, name = self.notes.partition(ELSEWHERE)
        return name.strip() if mark else None


def name_of(page: Path) -> str:
    """Return the path of *page* below the repository's root."""
    return page.relative_to(ROOT).as_posix()


@cache
def _tokens(page: Path) -> tuple[Token, ...]:
    return tuple(MarkdownIt("commonmark").enable("table").parse(page.read_text()))


def blocks(page: Path) -> Iterator[Block]:
    """Yield the blocks of code of *page* in their order, indented ones without a language."""
    for token in _tokens(page):
        if token.type in ("fence", "code_block"):
            language, _, notes = token.info.strip().partition(" ")
            line = (token.map or [0])[0] + 1
            yield Block(page=page, line=line, language=language, notes=notes.strip(), text=token.content)


def links(page: Path) -> Iterator[str]:
    """Yield what the links and pictures of *page* point to."""
    for token in _tokens(page):
        for child in token.children or ():
            if child.type in ("link_open", "image"):
                yield str(child.attrs["href" if child.type == "link_open" else "src"])


def text_outside_code(page: Path) -> Iterator[str]:
    """Yield the texts of *page* that are set as prose."""
    for token in _tokens(page):
        yield from (child.content for child in token.children or () if child.type == "text")


@cache
def anchors(page: Path) -> frozenset[str]:
    """Return the names by which links reach the headings of *page*, as GitHub makes them."""
    tokens, seen, found = _tokens(page), Counter[str](), set[str]()
    for opened, inline in pairwise(tokens):
        if opened.type == "heading_open":
            shown = "".join(child.content for child in inline.children or () if child.type in ("text", "code_inline"))
            slug = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
            found.add(slug if not seen[slug] else f"{slug}-{seen[slug]}")
            seen[slug] += 1
    return frozenset(found)
