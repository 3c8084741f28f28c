"""The address of an inference server with the key that it wants, `http://:KEY@host:port`, as the registry carries it.

The key is part of the address so that whoever learns where a server is can also ask it; only what is shown to people
goes through `shown_address`.
"""

from __future__ import annotations

from urllib.parse import quote, unquote, urlsplit


def keyed_address(host: str, port: int, key: str) -> str:
    """Return the address of a server that wants *key*, or none if that is empty."""
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return f"http://:{quote(key, safe='')}@{authority}" if key else f"http://{authority}"


def shown_address(address: str) -> str:
    """Return *address* without its key."""
    scheme, separator, rest = address.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def key_of(address: str) -> str:
    """Return the key in *address*, empty without one."""
    return unquote(urlsplit(address).password or "")


def authorization_of(address: str) -> dict[str, str]:
    """Return the header by which a server at *address* recognizes us; none where it wants no key."""
    key = key_of(address)
    return {"authorization": f"Bearer {key}"} if key else {}
