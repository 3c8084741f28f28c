"""Patterns of RE2, whose time grows with the text alone: no pattern can hang an evaluation."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import re2

_MEMORY_BYTES: Final = 8 * 2**20


@lru_cache(maxsize=512)
def compile_pattern(pattern: str, *, ignore_case: bool = False) -> Any:
    """Return the compiled pattern; `ValueError` names what RE2 does not take."""
    options = re2.Options()
    options.log_errors, options.max_mem = False, _MEMORY_BYTES
    options.case_sensitive = not ignore_case
    try:
        return re2.compile(pattern, options)
    except re2.error as exc:
        told = exc.args[0].decode() if exc.args and isinstance(exc.args[0], bytes) else str(exc)
        raise ValueError(
            f"is not a pattern of RE2: {told}. RE2 has no look-ahead, no look-behind and no back-reference, so that "
            "every pattern ends in linear time"
        ) from exc


def is_found(pattern: str, text: str, *, whole: bool = False, ignore_case: bool = False) -> bool:
    """Return whether *pattern* is found in *text*, or matches all of it."""
    compiled = compile_pattern(pattern, ignore_case=ignore_case)
    return (compiled.fullmatch(text) if whole else compiled.search(text)) is not None
