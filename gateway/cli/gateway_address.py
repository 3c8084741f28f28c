"""Where the gateway is and who asks: the variables LORRY_URL and LORRY_API_KEY, checked before anything is sent."""

from __future__ import annotations

import getpass
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from gateway.cli.errors import CommandFailed

DEFAULT_URL: Final = "http://127.0.0.1:8080"
_SENDABLE: Final = re.compile(r"[\x21-\x7e]+")
_SHOULD_BE: Final = "write http://HOST:PORT, such as http://127.0.0.1:8080"


def gateway_url(variables: Mapping[str, str]) -> str:
    """Return the address of the gateway without a slash at its end. Raises `CommandFailed`."""
    given = (variables.get("LORRY_URL") or DEFAULT_URL).strip()
    try:
        parts = urlsplit(given)
        host, _ = parts.hostname, parts.port  # reading the port checks it
    except ValueError as exc:
        raise CommandFailed(f"LORRY_URL {given!r} is not an address ({exc}); {_SHOULD_BE}") from exc
    if parts.scheme not in ("http", "https"):
        meant = f"; was http://{given} meant?" if "://" not in given else f"; {_SHOULD_BE}"
        raise CommandFailed(f"LORRY_URL {given!r} does not begin with http:// or https://{meant}")
    if not host or parts.query or parts.fragment or re.search(r"\s", given):
        raise CommandFailed(f"LORRY_URL {given!r} is not the address of a gateway; {_SHOULD_BE}")
    return given.rstrip("/").removesuffix("/v1")


def key_of(variables: Mapping[str, str]) -> str | None:
    """Return the API key to send, None without one. Raises `CommandFailed` for what can be no key."""
    key = (variables.get("LORRY_API_KEY") or "").strip()
    if key and _SENDABLE.fullmatch(key) is None:
        wrong = next(sign for sign in key if _SENDABLE.fullmatch(sign) is None)
        raise CommandFailed(f"LORRY_API_KEY has the character {wrong!r}, which no key has; keys are sk-lorry-...")
    return key or None


def actor() -> str:
    """Return the name of this user for the audit log, in ASCII."""
    try:
        return getpass.getuser().encode("ascii", "replace").decode()
    except (KeyError, OSError):  # a container whose user has no name
        return "unknown"
