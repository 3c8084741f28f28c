"""Guardrails: what a rollout is judged on, and how much worse than stable its canary may be. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from registry.errors import InvalidPlan
from registry.rollouts.guardrail_names import Guardrail
from registry.wording.field_faults import json_text
from registry.wording.suggestions import meant_or_known

RELATIVE: Final = frozenset({Guardrail.TTFT_P95, Guardrail.TPOT_P95})
"""Guardrails whose margin is a part of stable's value; the margin of the others is a plain difference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardrailPlan:
    """How much worse than stable the canary may be, one margin for each guardrail; None turns the guardrail off.

    A margin is what one would shrug off, not what one fears: the canary is aborted once it is proven worse by more.
    """

    error_rate: float | None = 0.0025
    """Share of requests that fail through no fault of the client: 0.0025 is a quarter of a percentage point more."""
    ttft_p95: float | None = 0.05
    """95th percentile of the time to the first token: 0.05 is a twentieth longer."""
    tpot_p95: float | None = 0.05
    """95th percentile of the time per output token after the first: 0.05 is a twentieth longer."""
    length_finishes: float | None = 0.03
    """Share of answers cut off at their token limit."""
    empty_answers: float | None = 0.005
    """Share of answers without text and without a tool call."""
    invalid_json: float | None = 0.005
    """Share of answers that are not JSON where JSON was asked for."""
    invalid_tool_calls: float | None = 0.005
    """Share of tool calls whose arguments are not JSON."""
    feedback: float | None = 0.05
    """Mean score from 0 to 1: 0.05 lower is a fifth of a point on a scale from 1 to 5."""
    min_samples: int = 100
    """Requests that each side must have answered in a step before the next one."""
    alpha: float = 0.05
    """Probability, at most, that a rollout within all margins is aborted, however often one looks."""

    def __post_init__(self) -> None:
        """Raise `InvalidPlan` naming the field at fault."""
        for guardrail in Guardrail:
            _check_margin(guardrail, getattr(self, guardrail))
        if type(self.min_samples) is not int or self.min_samples < 1:
            given = json_text(self.min_samples)
            raise InvalidPlan(f"min_samples must be a whole number of requests from 1; got {given}")
        if type(self.alpha) is not float or not 1e-6 <= self.alpha <= 0.5:
            raise InvalidPlan(f"alpha must be a probability from 0.000001 to 0.5; got {json_text(self.alpha)}")
        if not self.margins:
            raise InvalidPlan("every guardrail is off; leave one on, or start the rollout without a judge")

    @property
    def margins(self) -> dict[Guardrail, float]:
        """Guardrails that are judged -> margin."""
        return {each: getattr(self, each) for each in Guardrail if getattr(self, each) is not None}

    @property
    def alpha_each(self) -> float:
        """The share of `alpha` that each guardrail may spend (Bonferroni)."""
        return self.alpha / len(self.margins)


def guardrails_from(values: Mapping[str, Any]) -> GuardrailPlan:
    """Return the plan in a JSON or TOML object; `null` or `false` turns a guardrail off, absent fields keep defaults.

    Raises `InvalidPlan` for an unknown name, listing the right ones, and for a bad value, naming the field.
    """
    known = [each.name for each in fields(GuardrailPlan)]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise InvalidPlan(f"unknown guardrail {str(unknown[0])[:64]!r}{meant_or_known(str(unknown[0]), known)}")
    return GuardrailPlan(**{name: _value(name, value) for name, value in values.items()})


def guardrails_as_json(plan: GuardrailPlan) -> dict[str, Any]:
    """Return every field of *plan*, as `guardrails_from` reads them."""
    return asdict(plan)


def _value(name: str, value: Any) -> Any:
    if name == "min_samples":
        return value
    if value is False and name != "alpha":
        return None
    return float(value) if type(value) is int else value


def _check_margin(guardrail: Guardrail, margin: Any) -> None:
    if margin is None:
        return
    highest = 10.0 if guardrail in RELATIVE else 1.0
    if type(margin) is not float or not 0 <= margin < highest:
        kind = "part of stable's value" if guardrail in RELATIVE else "difference"
        given = json_text(margin)
        raise InvalidPlan(f"{guardrail} must be a {kind} from 0 to below {highest:g}, or false; got {given}")
