"""Guardrails have default margins, can be turned off, and share alpha."""

from __future__ import annotations

import json
from typing import Any

import pytest

from registry.errors import InvalidPlan
from registry.rollouts.guardrail_names import Guardrail
from registry.rollouts.guardrails import GuardrailPlan, guardrails_as_json, guardrails_from


def test_what_is_not_named_keeps_its_default() -> None:
    plan = guardrails_from({"error_rate": 0.02, "min_samples": 7})
    assert plan == GuardrailPlan(error_rate=0.02, min_samples=7)
    assert plan.ttft_p95 == GuardrailPlan().ttft_p95


def test_every_guardrail_is_a_field_with_a_default_margin() -> None:
    assert set(GuardrailPlan().margins) == set(Guardrail)


@pytest.mark.parametrize("off", [None, False])
def test_a_guardrail_can_be_turned_off_and_leaves_its_alpha_to_the_others(off: object) -> None:
    plan = guardrails_from({"feedback": off})
    assert Guardrail.FEEDBACK not in plan.margins
    assert plan.alpha_each == pytest.approx(0.05 / 7)


def test_whole_numbers_serve_as_margins() -> None:
    assert guardrails_from({"ttft_p95": 1, "error_rate": 0}) == GuardrailPlan(ttft_p95=1.0, error_rate=0.0)


def test_an_unknown_name_is_told_the_right_ones() -> None:
    with pytest.raises(InvalidPlan, match=r"unknown guardrail 'error_rat'; did you mean 'error_rate'\?"):
        guardrails_from({"error_rat": 0.1})
    with pytest.raises(InvalidPlan, match=r"unknown guardrail 'x'; there are: error_rate, ttft_p95, .*alpha"):
        guardrails_from({"x": 0.1})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("error_rate", 1.0),
        ("error_rate", -0.1),
        ("error_rate", "0.1"),
        ("error_rate", True),
        ("error_rate", float("nan")),
        ("ttft_p95", 10.0),
        ("min_samples", 0),
        ("min_samples", 10.5),
        ("min_samples", None),
        ("min_samples", True),
        ("alpha", 0),
        ("alpha", 0.6),
        ("alpha", 1e-9),
        ("alpha", None),
        ("alpha", False),
    ],
)
def test_a_bad_value_names_its_field(name: str, value: Any) -> None:
    with pytest.raises(InvalidPlan, match=name):
        guardrails_from({name: value})


def test_nothing_to_judge_is_no_plan() -> None:
    with pytest.raises(InvalidPlan, match="without a judge"):
        guardrails_from({str(each): False for each in Guardrail})


def test_a_plan_survives_json() -> None:
    plan = guardrails_from({"tpot_p95": None, "alpha": 0.01, "invalid_json": 0.5})
    assert guardrails_from(json.loads(json.dumps(guardrails_as_json(plan)))) == plan
