"""Requests that a web browser sends for a page of another site, which a gateway on loopback could take for local ones.

A browser on this machine reaches loopback, and so does every page that is open in it: by a cross-site request, or by
DNS rebinding (the page's own name resolves to 127.0.0.1 on the second look-up). Browsers name their page in `origin`
and `sec-fetch-site`, and the name by which they reached the gateway in `host`. A page can forge none of the three.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from ipaddress import ip_address
from typing import Annotated, Final

from pydantic import AfterValidator

from gateway.errors import HostNotAllowed, OriginNotAllowed, UnsupportedMediaType
from gateway.origins import AllowedOrigins

ANY_HOST: Final = "*"
OWN_NAMES: Final = frozenset(
    {
        "localhost",
        # names by which containers and virtual machines reach the machine that they run on
        *("host.docker.internal", "gateway.docker.internal", "kubernetes.docker.internal"),
        *("host.containers.internal", "host.minikube.internal", "host.lima.internal", "host.orb.internal"),
    }
)
"""Names that are never looked up in the public DNS, and so cannot be pointed at this machine by a stranger."""
PRIVATE_SUFFIXES: Final = (".localhost", ".internal", ".local", ".lan", ".home.arpa", ".svc")
"""Ends of names that nobody can register, such as those of Kubernetes' services; a network's own DNS may have them."""
BROWSERS_HEADERS: Final = frozenset({b"origin", b"sec-fetch-site"})
"""Headers that only browsers send."""
SIMPLE_TYPES: Final = frozenset({"text/plain", "application/x-www-form-urlencoded", "multipart/form-data"})
"""Content types that a page may send to another site without asking first (Fetch, "CORS-safelisted")."""

_HOST: Final = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{0,5})?")
_NAME: Final = re.compile(r"(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_MOST_KNOWN: Final = 256
_SHOWN: Final = 100


def _as_browsers_send_it(text: str) -> str:
    name = text.lower().rstrip(".")
    if text != ANY_HOST and _NAME.fullmatch(name) is None:
        raise ValueError(
            f"{text!r} is not a host: write a name without scheme and port, such as lorry.example.com, "
            "*.example.com for all names below one, or * for every host"
        )
    return name if text != ANY_HOST else text


HostName = Annotated[str, AfterValidator(_as_browsers_send_it)]
"""A host as browsers send it, without its port; `*.` stands for any name below, `*` for every host."""


class PageGuard:
    """Refuses what a page of another site may have sent: the origins and hosts that the settings list pass."""

    def __init__(self, hosts: Collection[str], origins: AllowedOrigins, machine: str) -> None:
        """*hosts* are those of `allowed_hosts`, *machine* is the name of this machine."""
        self._origins = origins
        self._allows_any = ANY_HOST in hosts
        self._names = OWN_NAMES | {host for host in hosts if not host.startswith("*.")} | {machine.lower()}
        self._suffixes = (".localhost", *(host[1:] for host in hosts if host.startswith("*.")))
        self.known: set[bytes | None] = {None}
        """Values of `host` that have passed; a request without one comes from no browser."""

    def check_keyless(self, headers: Mapping[bytes, bytes]) -> None:
        """Raise as `check` does for the *headers* of a request of the hot path, while there is no key."""
        host = headers.get(b"host")
        # Nearly all requests come from other programs than browsers, to a host that has passed.
        if host not in self.known or not BROWSERS_HEADERS.isdisjoint(headers):
            self.check(host, headers.get(b"origin"), headers.get(b"sec-fetch-site"), is_keyless=True)

    def check(self, host: bytes | None, origin: bytes | None, site: bytes | None, *, is_keyless: bool) -> None:
        """Raise `HostNotAllowed` or `OriginNotAllowed` for the headers `host`, `origin` and `sec-fetch-site`.

        Once there are keys (not *is_keyless*) a page cannot do anything without one, so names of a private network are
        hosts too, such as that of a Kubernetes service.
        """
        if host not in self.known:
            self._check_host(host or b"", is_keyless=is_keyless)
        if origin is not None or site is not None:
            self._check_page(host, origin, site)

    def _check_host(self, host: bytes, *, is_keyless: bool) -> None:
        found = _HOST.fullmatch(host)
        name = "" if found is None else found[1].decode().lower().rstrip(".")
        if name and (self._allows_any or self._is_own(name)):
            # A peer may send any number of names below `.localhost`.
            if len(self.known) < _MOST_KNOWN:
                self.known.add(host)
        elif not name or is_keyless or not ("." not in name or name.endswith(PRIVATE_SUFFIXES)):
            why = "while no API key exists" if is_keyless else "at the admin endpoints"
            raise HostNotAllowed(
                f"requests to the host {_shown(host)} are not served {why}, as any web page may have sent them; ask by "
                "IP address or localhost, or list the host in the setting [gateway] allowed_hosts"
            )

    def _is_own(self, name: str) -> bool:
        if name in self._names or name.endswith(self._suffixes):
            return True
        try:
            ip_address(name.strip("[]"))
        except ValueError:
            return False
        return True  # a page whose host is an address comes from that address: there is no name to rebind

    def _check_page(self, host: bytes | None, origin: bytes | None, site: bytes | None) -> None:
        if self._origins.allow(origin or b""):
            return
        is_own = origin is None or origin.partition(b"://")[2].lower() == (host or b"").lower()
        if is_own and site in (None, b"none", b"same-origin"):
            return
        page = (
            f"pages of {_shown(origin)}" if origin else f"pages of another site (sec-fetch-site: {_shown(site or b'')})"
        )
        raise OriginNotAllowed(
            f"{page} may not use this gateway; the setting [gateway] cors_origins lists the origins that may"
        )


def check_is_json(content_type: str | None, *, is_from_browser: bool) -> None:
    """Raise `UnsupportedMediaType` unless a body of this type is JSON; no type will do from others than browsers."""
    if content_type is None and not is_from_browser:
        return
    kind = _kind_of(content_type)
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise _wrong_type(kind, "application/json")


def check_is_not_simple(content_type: str | None, *, is_from_browser: bool, right: str) -> None:
    """Raise `UnsupportedMediaType` for a type that a page may send to another site unasked; *right* would be right."""
    if content_type is None and not is_from_browser:
        return
    kind = _kind_of(content_type)
    if not kind or kind in SIMPLE_TYPES:
        raise _wrong_type(kind, right)


def _kind_of(content_type: str | None) -> str:
    return (content_type or "").partition(";")[0].strip().lower()


def _wrong_type(kind: str, right: str) -> UnsupportedMediaType:
    sent = f"has the content type {_shown(kind.encode('latin-1'))}" if kind else "has no content type"
    return UnsupportedMediaType(f"the body {sent}; send it with the header `content-type: {right}`")


def _shown(value: bytes) -> str:
    return repr(value[:_SHOWN].decode("latin-1"))
