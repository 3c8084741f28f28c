"""Secrets of the environment, each handed to the part that needs it and to no other process of Lorry."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from gateway.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class PartSecrets:
    """Environment variables by the part that reads them."""

    controller: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The secret that signs webhooks."""
    gateway: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Headers for the receiver of traces."""


NO_SECRETS: Final = PartSecrets()


def withhold_secrets(settings: Settings) -> PartSecrets:
    """Take the secrets out of this process' environment, which its children get, and return them."""
    return PartSecrets(controller=_taken(settings.webhooks.secret_env), gateway=_taken(settings.traces.headers_env))


def _taken(name: str) -> dict[str, str]:
    value = os.environ.pop(name, None)
    return {} if value is None else {name: value}
