"""The dialects, a line each."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.dialects.dialect import Dialect
from gateway.settings import GatewaySettings


def dialects_of(settings: GatewaySettings) -> Mapping[str, Dialect]:
    """Return the dialect of every path whose requests are answered through another path."""
    return {}
