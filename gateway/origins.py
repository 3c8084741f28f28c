"""Origins of web pages that may use the gateway (`cors_origins`): how they are written, what their answers carry."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Annotated, Final

from pydantic import AfterValidator

ANY_ORIGIN: Final = "*"
EXPOSED_HEADERS: Final = (
    "retry-after",
    "x-lorry-replica",
    "x-lorry-revision",
    "x-ratelimit-limit-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-requests",
    "x-ratelimit-reset-tokens",
    "x-request-id",
)
"""Headers of answers that a page may read besides those that every page may read."""

_WRITTEN: Final = re.compile(r"([a-z][a-z0-9+.-]*)://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
_DEFAULT_PORTS: Final[Mapping[str, str]] = MappingProxyType({"http": ":80", "https": ":443"})


def _as_browsers_send_it(text: str) -> str:
    if text == ANY_ORIGIN:
        return text
    found = _WRITTEN.fullmatch(text.lower())
    if found is None:
        raise ValueError(
            f"{text!r} is not an origin: write scheme, host and port without a path, such as http://localhost:5173, "
            "or * for every origin"
        )
    scheme, host, port = found.groups(default="")
    return f"{scheme}://{host}{'' if port == _DEFAULT_PORTS.get(scheme) else port}"


Origin = Annotated[str, AfterValidator(_as_browsers_send_it)]
"""An origin as browsers send it: lower case, without the default port; or `*`."""


class AllowedOrigins:
    """The origins of `cors_origins`."""

    def __init__(self, origins: Collection[str]) -> None:
        self._origins = frozenset(origin.encode() for origin in origins)
        self._allows_any = ANY_ORIGIN in origins
        self.are_none = not origins
        """True where no page of another origin may use the gateway."""
        exposed = f"access-control-expose-headers: {', '.join(EXPOSED_HEADERS)}\r\n".encode()
        self._lines_of_any = b"access-control-allow-origin: *\r\n" + exposed
        self._after_origin = b"\r\n" + exposed + b"vary: origin\r\n"

    def allow(self, origin: bytes) -> bool:
        """Whether pages of *origin*, the header's value, may use the gateway."""
        return self._allows_any or origin in self._origins

    def lines_for(self, origin: bytes | None) -> bytes:
        """Return the header lines of an answer to a request with this header `origin`, by the Fetch standard."""
        if origin is None or not self.allow(origin):
            # A cache must not give this answer to a page of another origin (Fetch, "CORS protocol and HTTP caches").
            return b"" if self._allows_any or self.are_none else b"vary: origin\r\n"
        return (
            self._lines_of_any if self._allows_any else b"access-control-allow-origin: " + origin + self._after_origin
        )
