"""The catalog of forms, and which one a row has."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from corpus.forms.alpaca import ALPACA
from corpus.forms.form import Form, Row, as_json
from corpus.forms.pairs import PREFERENCE
from corpus.forms.query_response import QUERY_RESPONSE
from corpus.forms.sharegpt import SHAREGPT
from registry.contracts.preference_lines import PAIR_FIELDS, RATED_FIELDS
from registry.contracts.training_json import shown

_NESTED: Final = ("messages", "tools", "input", "preferred_output", "non_preferred_output")
_TEXT: Final = ("prompt", "completion")


def _is_own(row: Row) -> bool:
    return bool("messages" in row or set(PAIR_FIELDS) <= row.keys() or set(_TEXT) <= row.keys())


def _own_line(row: Row) -> dict[str, Any]:
    """Return the row without the columns that no training line has; a table's cells hold JSON as text."""
    known = RATED_FIELDS if "messages" in row else _TEXT if set(_TEXT) <= row.keys() else PAIR_FIELDS
    kept = {name: row[name] for name in known if row.get(name) is not None}
    for name in _NESTED:
        if name in kept and isinstance(kept[name], str):
            kept[name] = as_json(kept[name], name)
    return kept


OWN: Final = Form(
    name="openai",
    fields="messages; input, preferred_output and non_preferred_output; or prompt and completion",
    fits=_is_own,
    line=_own_line,
)
FORMS: Final = (OWN, SHAREGPT, ALPACA, PREFERENCE, QUERY_RESPONSE)
"""In the order in which they are tried: rows of two forms have the first one's."""
BY_NAME: Final = {form.name: form for form in FORMS}


def form_of(row: Row) -> Form | None:
    """Return the form that has the fields of *row*; None for an unknown one."""
    return next((form for form in FORMS if form.fits(row)), None)


def known_forms() -> str:
    """Return all forms with their fields, for people."""
    return "; ".join(f"{form.name}: {form.fields}" for form in FORMS)


def fields_shown(row: Iterable[str]) -> str:
    """Return the fields of a row, for people."""
    return shown(sorted(str(name) for name in row))
