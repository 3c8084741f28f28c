"""Secrets of the environment, each handed to the part that needs it and to no other process of Lorry."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from gateway.settings import Settings
from registry.settings import REGISTRY_VARIABLE


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


def hide_secrets(settings: Settings) -> None:
    """Take the secrets, and the registry's URL with its password, out of this process' environment.

    For a process that starts others and has read its settings.
    """
    withhold_secrets(settings)
    _taken(REGISTRY_VARIABLE)


def _taken(name: str) -> dict[str, str]:
    value = os.environ.pop(name, None)
    return {} if value is None else {name: value}
