"""The names that an adapter may have. No library is imported, because the `lorry` command checks names as well."""

from __future__ import annotations

import re
import unicodedata
from hashlib import sha256
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


def adapter_name_of(text: str) -> str:
    """Return the legal name that *text* becomes, the same at every call; a legal *text* is its own name.

    A name that lost letters or digits on the way ends with a hash of *text*, so that different texts stay apart.
    """
    if ADAPTER_NAME.fullmatch(text):
        return text
    plain = unicodedata.normalize("NFKD", text)
    name = re.sub(r"[^a-z0-9._-]+", "-", plain.encode("ascii", "ignore").decode().lower()).strip("._-")[:64]
    is_whole = all(letter.isascii() or not letter.isalnum() for letter in plain) and name != ""
    if is_whole:
        return name.rstrip("._-")
    mark = sha256(text.encode("utf-8", "replace")).hexdigest()[:8]
    return f"{name[:55].rstrip('._-') or 'adapter'}-{mark}"


def _legal(name: str) -> str:
    """Return the legal name that is nearest to *name*, "" where there is none; of `organisation/name` the last part."""
    last = name[-256:].rstrip("/").rpartition("/")[2]
    return re.sub(r"[^a-z0-9._-]+", "-", last.lower()).strip("._-")[:64].rstrip("._-")
