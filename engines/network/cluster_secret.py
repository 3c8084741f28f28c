"""The secret of a cluster: who has it can make the key of every engine, and who has it not can use none.

The key of a server is made anew at each of its starts. On a cluster the registry carries its address without the key,
`http://ID.NONCE@host:port`: the id of a secret, and a number that is used once. The key is the HMAC-SHA256 of that
address under that secret, so gateways with the secret make it themselves. Neither a copy of the registry nor a
request that somebody listens to gives away another engine's key, and an address that was changed to another host gives
another key. `LORRY_CLUSTER_SECRET` may hold several secrets, `new,old`: servers that start get keys by the first, keys
by all of them are made, so that a secret is replaced while everything serves.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from engines.address import keyed_address
from engines.errors import ClusterSecretMissing, SettingRefused
from engines.network.hosts import is_loopback

SECRET_VARIABLE: Final = "LORRY_CLUSTER_SECRET"  # noqa: S105  the name of a variable
_SHORTEST: Final = 32
_ID_LENGTH: Final = 8


@dataclass(frozen=True, slots=True)
class ClusterSecret:
    """The secrets that are in force, the one for new servers first; none on a single machine."""

    secrets: tuple[str, ...] = field(default=(), repr=False)

    def new_address(self, host: str, port: int) -> str:
        """Return the address, with a key, of a server that starts; without a secret the key is a random one."""
        # Hexadecimal: no character that a parser of arguments or a log would write otherwise.
        if not self.secrets:
            return keyed_address(host, port, secrets.token_hex(32))
        login = f"{_id_of(self.secrets[0])}.{secrets.token_hex(16)}"
        return self.opened(keyed_address(host, port, "").replace("://", f"://{login}@"))

    def opened(self, address: str) -> str:
        """Return *address* with its key; unchanged if it has one, or wants none. `ClusterSecretMissing`."""
        parts = urlsplit(address)
        if not parts.username or parts.password:
            return address
        known = {_id_of(secret): secret for secret in self.secrets}
        secret = known.get(parts.username.partition(".")[0])
        if secret is None:
            which = "another secret" if known else "a secret, and none is set here"
            raise ClusterSecretMissing(f"the engine was started with {which} in {SECRET_VARIABLE}")
        return address.replace("@", f":{_digest(secret, address)}@", 1)

    def check_covers(self, *hosts: str) -> None:
        """Raise `SettingRefused` for a server that other machines can reach, unless there is a secret."""
        for host in hosts:
            if not self.secrets and not is_loopback(host):
                raise SettingRefused(
                    f"an engine on {host} can be reached from other machines, so {SECRET_VARIABLE} must be set, alike "
                    f"on all nodes: at least {_SHORTEST} characters, such as `openssl rand -hex 32` prints"
                )


NO_SECRET: Final = ClusterSecret()


def cluster_secret(environment: Mapping[str, str]) -> ClusterSecret:
    """Return the secrets in *environment*; `SettingRefused` for one that can be guessed or is there twice."""
    text = environment.get(SECRET_VARIABLE, "")
    if not text:
        return NO_SECRET
    found = tuple(part.strip() for part in text.split(","))
    if short := [number for number, part in enumerate(found, start=1) if len(part) < _SHORTEST]:
        which = "" if len(found) == 1 else f" (number {short[0]} of {len(found)})"
        raise SettingRefused(
            f"{SECRET_VARIABLE}{which} must have at least {_SHORTEST} characters, such as `openssl rand -hex 32` prints"
        )
    if len(set(found)) < len(found):
        raise SettingRefused(f"{SECRET_VARIABLE} has the same secret twice; give `new,old`, or one")
    return ClusterSecret(found)


def registered_address(address: str) -> str:
    """Return *address* as the registry carries it: without a key that the cluster's secret makes."""
    parts = urlsplit(address)
    if not parts.username or parts.password is None:
        return address
    return address.replace(f":{parts.password}@", "@", 1)


def _id_of(secret: str) -> str:
    return _digest(secret, "id")[:_ID_LENGTH]


def _digest(secret: str, text: str) -> str:
    return hmac.digest(secret.encode(), text.encode(), "sha256").hex()
