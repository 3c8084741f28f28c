"""Match `rank_pattern` and `alpha_pattern` of an adapter's config, which anybody may have written, in linear time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import re2

from registry.errors import AdapterRejected
from registry.publishing.adapter_config import LARGEST_ALPHA, is_factor, refuse_field
from registry.publishing.adapter_files import CONFIG, cut_name

LONGEST_PATTERN: Final = 512
MOST_PATTERNS: Final = 2_000
"""Patterns of one field. Some trainers write a pattern for each module: 224 for a model of 7 billion parameters."""
MOST_MEMORY: Final = 1024 * 1024
"""Bytes for a pattern as it is compiled, and for what is kept of its matches."""


def by_pattern(config: Mapping[str, Any], field: str, modules: Iterable[str]) -> dict[str, float]:
    """Return module -> value of the first pattern in *field* that matches its name, or its end after a dot, as in PEFT.

    Modules that no pattern matches are left out. `AdapterRejected` for a field, value or pattern that cannot be read.
    """
    patterns = config.get(field) or {}
    if not isinstance(patterns, dict) or not all(map(is_factor, patterns.values())):
        raise refuse_field(config, field, f"it must give module names a number above 0, up to {LARGEST_ALPHA}")
    if len(patterns) > MOST_PATTERNS:
        raise AdapterRejected(f"{CONFIG}: {field} has {len(patterns)} patterns; up to {MOST_PATTERNS} are read")
    left = set(modules)
    found: dict[str, float] = {}
    for pattern, value in patterns.items():
        compiled = _compile(pattern, field)
        hit = {module for module in left if compiled.fullmatch(module)}
        found |= {module: value for module in hit}
        left -= hit
    return found


def _compile(pattern: str, field: str) -> Any:
    """Compile *pattern* with RE2, which never goes back in a text: `re` takes hours for some patterns."""
    if len(pattern) > LONGEST_PATTERN:
        raise AdapterRejected(f"{CONFIG}: {field}: {cut_name(pattern)!r} is longer than {LONGEST_PATTERN} characters")
    options = re2.Options()
    options.max_mem = MOST_MEMORY
    options.log_errors = False
    try:
        return re2.compile(rf"(?:.*\.)?(?:{pattern})", options)
    except (re2.error, UnicodeError) as exc:
        raise AdapterRejected(
            f"{CONFIG}: {field}: {cut_name(pattern)!r} cannot be matched in linear time, or is no pattern; write it "
            "without look-around and back-references, or name the module"
        ) from exc
