"""Formulas of multi graders have the values of school, and nothing else can be run by one."""

from __future__ import annotations

import pytest

from registry.contracts.graders.formula import parse_formula
from registry.errors import FormulaFailed, GraderInvalid

VALUES = {"a": 0.5, "b": 2.0}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a", 0.5),
        ("1 - a * b", 0.0),
        ("(1 - a) * b", 1.0),
        ("2 ^ 3 ^ 2", 512.0),
        ("-2 ^ 2", -4.0),
        ("2 ^ -1", 0.5),
        ("8 / 2 / 2", 2.0),
        ("5 - 2 - 1", 2.0),
        ("--a", 0.5),
        ("min(a, b, 0.25) + max(a, b)", 2.25),
        ("abs(-3) + floor(1.9) + ceil(0.1) + sqrt(4) + exp(0) + log(1)", 8.0),
        ("1e-1 + .5", 0.6),
        ("+".join(["1"] * 500), 500.0),
        ("*".join(["1"] * 500), 1.0),
    ],
)
def test_a_formula_has_the_value_that_it_has_on_paper(text: str, value: float) -> None:
    assert parse_formula(text).value(VALUES) == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "its end"),
        ("a +", "its end"),
        ("a b", "found b"),
        ("(a", "expected )"),
        ("a ** 2", "found *"),
        ("open(a)", "no function open"),
        ("a.real", "found ."),
        ("a[0]", "found ["),
        ("min(a)", "two or more"),
        ("abs(a, b)", "one value"),
        ("'a'", "found '"),
        ("1 if a else 2", "found if"),
        ("(" * 60 + "a" + ")" * 60, "50 levels"),
        ("-" * 60 + "a", "50 levels"),
        ("a" * 1001, "at most 1000"),
    ],
)
def test_a_wrong_formula_is_refused_where_it_is_wrong(text: str, named: str) -> None:
    with pytest.raises(GraderInvalid) as refused:
        parse_formula(text)
    assert named in str(refused.value)


@pytest.mark.parametrize("text", ["a / 0", "sqrt(-a)", "log(0)", "exp(1000)", "1e308 * 10", "(-8) ^ 0.5", "9 ^ 9 ^ 9"])
def test_a_formula_without_a_finite_value_fails(text: str) -> None:
    with pytest.raises(FormulaFailed):
        parse_formula(text).value(VALUES)
