"""The gate of a rollout: the scores that its canary needs before the first step. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from registry.errors import InvalidPlan
from registry.wording.field_faults import json_text
from registry.wording.suggestions import meant_or_known

BUILTIN: Final = "builtin:"
LONGEST_S: Final = 7 * 86400.0
SUITE_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class GatePlan:
    """The suite that the canary is asked before it takes traffic, and the scores that let it through."""

    suite: str
    """`builtin:NAME`, or the digest of a suite that the registry has."""
    min: float | None = None
    """Lowest score of the canary."""
    not_worse_than_stable_by: float | None = None
    """Margin: the difference to the stable's score is above its negative, with 95 % confidence, row by row."""
    timeout_s: float = 3600.0
    """Time for the evaluations; a gate that is not decided by then aborts the rollout."""
    digest: str | None = None
    """The suite's digest, which the gateway that takes the plan fills in: a later suite of the name changes nothing."""

    def __post_init__(self) -> None:
        """Raise `InvalidPlan` naming the field at fault."""
        if not isinstance(self.suite, str) or not self.suite:
            raise InvalidPlan(
                f'gate.suite must be "builtin:NAME" or the digest of a stored suite; got {json_text(self.suite)}'
            )
        if self.min is None and self.not_worse_than_stable_by is None:
            raise InvalidPlan("gate needs min, not_worse_than_stable_by, or both")
        _check_number("min", self.min, 0.0, 1.0)
        _check_number("not_worse_than_stable_by", self.not_worse_than_stable_by, 0.0, 1.0)
        _check_number("timeout_s", self.timeout_s, 1.0, LONGEST_S)
        if self.digest is not None and not (isinstance(self.digest, str) and SUITE_DIGEST.fullmatch(self.digest)):
            raise InvalidPlan(f"gate.digest must be the 64 digits of a suite's SHA-256; got {json_text(self.digest)}")


def gate_from(values: Mapping[str, Any]) -> GatePlan:
    """Return the gate in a JSON or TOML object. `InvalidPlan` names an unknown field, and a bad value's field."""
    known = [each.name for each in fields(GatePlan)]
    if unknown := sorted(set(values) - set(known), key=str):
        raise InvalidPlan(f"gate: unknown field {str(unknown[0])[:64]!r}{meant_or_known(str(unknown[0]), known)}")
    if "suite" not in values:
        raise InvalidPlan('gate.suite is missing: "builtin:NAME" or the digest of a stored suite')
    given: dict[str, Any] = {name: float(value) if type(value) is int else value for name, value in values.items()}
    return GatePlan(**given)


def gate_as_json(gate: GatePlan) -> dict[str, Any]:
    """Return every field of *gate*, as `gate_from` reads them."""
    return asdict(gate)


def _check_number(name: str, value: Any, least: float, most: float) -> None:
    if value is not None and (type(value) is not float or not least <= value <= most):
        raise InvalidPlan(f"gate.{name} must be a number from {least:g} to {most:g}; got {json_text(value)}")
