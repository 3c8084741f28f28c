"""The names that an adapter may have. No library is imported, because the `lorry` command checks names as well."""

from __future__ import annotations

import re
from typing import Final

from registry.errors import AdapterRejected
from registry.publishing.adapter_files import cut_name

ADAPTER_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def check_adapter_name(name: str) -> None:
    """Raise `AdapterRejected` unless *name* can be part of a served name, a URL and a `ft:` alias."""
    if ADAPTER_NAME.fullmatch(name) is None:
        legal = _legal(name)
        hint = f"; {legal!r} would do" if legal else ""
        raise AdapterRejected(
            f"adapter name {cut_name(name)!r}: up to 64 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit"
            f"{hint}"
        )


def _legal(name: str) -> str:
    """Return the legal name that is nearest to *name*, "" where there is none; of `organisation/name` the last part."""
    last = name[-256:].rstrip("/").rpartition("/")[2]
    return re.sub(r"[^a-z0-9._-]+", "-", last.lower()).strip("._-")[:64].rstrip("._-")
