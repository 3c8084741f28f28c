"""Normal forms of texts, in which answers are compared."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Final

_SPACES: Final = re.compile(r"\s+")
_FENCE: Final = re.compile(r"\s*```[A-Za-z0-9_-]*[ \t]*\n(.*?)\n?```\s*", re.DOTALL)


def folded(text: str) -> str:
    """Return *text* in NFKC, case folded, with single spaces, without spaces and sentence marks at both ends."""
    return _SPACES.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip(" .!?,;:。、")


NORMAL_FORMS: Final[Mapping[str, Callable[[str], str]]] = {"text": folded, "space": str.strip, "none": str}
"""`normalize` -> its function."""


def without_fence(text: str) -> str:
    """Return the content of *text*, if that is one code fence and nothing else."""
    found = _FENCE.fullmatch(text)
    return text if found is None else found[1]
