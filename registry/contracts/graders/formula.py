"""The formulas of multi graders: `0.7 * accuracy + min(style, 1)`, parsed here and never given to `eval`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from registry.errors import FormulaFailed, GraderInvalid

LONGEST_FORMULA: Final = 1000
MOST_LEVELS: Final = 50
"""Levels of brackets and signs: the parser recurses once for each."""
FUNCTIONS: Final[Mapping[str, Callable[..., float]]] = {
    "min": min,
    "max": max,
    "abs": abs,
    "floor": math.floor,
    "ceil": math.ceil,
    "exp": math.exp,
    "sqrt": math.sqrt,
    "log": math.log,
}
"""The functions of OpenAI's formulas; `min` and `max` take two or more values, the others one."""
_SEVERAL: Final = frozenset({"min", "max"})
_TOKEN: Final = re.compile(r"\s*(?:(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+)|([A-Za-z_]\w*)|(\S))")
_END: Final = ""

Term = Callable[[Mapping[str, float]], float]
"""A parsed part of a formula: its value for the values of the variables."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Formula:
    """A parsed formula."""

    variables: frozenset[str]
    term: Term

    def value(self, values: Mapping[str, float]) -> float:
        """Return the finite value for *values*; `FormulaFailed` where there is none, as for a division by zero."""
        try:
            result = float(self.term(values))
        except (ArithmeticError, ValueError, TypeError) as exc:
            raise FormulaFailed(f"calculate_output has no value for {dict(values)}: {exc}") from exc
        if not math.isfinite(result):
            raise FormulaFailed(f"calculate_output is {result} for {dict(values)}")
        return result


def parse_formula(text: str) -> Formula:
    """Return *text* parsed: `+ - * / ^`, brackets, numbers, `FUNCTIONS`, variables. Raises `GraderInvalid`.

    `^` binds to the right and more tightly than a sign before it, as in mathematics: `-2 ^ 2` is -4.
    """
    if len(text) > LONGEST_FORMULA:
        raise GraderInvalid(f"calculate_output has {len(text)} characters; at most {LONGEST_FORMULA} are allowed")
    parser = _Parser(text)
    term = parser.sum(MOST_LEVELS)
    parser.expect(_END)
    return Formula(variables=frozenset(parser.variables), term=term)


class _Parser:
    """Recursive descent over the tokens of a formula."""

    def __init__(self, text: str) -> None:
        self._tokens = [(match[1] or "", match[2] or "", match[3] or "") for match in _TOKEN.finditer(text.rstrip())]
        self._at = 0
        self.variables: set[str] = set()

    def sum(self, levels: int) -> Term:
        """Parse terms that are added or subtracted."""
        parts = [(1.0, self._product(levels))]
        while (sign := self._sign()) in ("+", "-"):
            self._at += 1
            parts.append((1.0 if sign == "+" else -1.0, self._product(levels)))
        return parts[0][1] if len(parts) == 1 else _summed(parts)

    def expect(self, sign: str) -> None:
        """Step over *sign*; raise `GraderInvalid` if something else stands there."""
        if self._shown() != (sign or "its end"):
            raise GraderInvalid(f"calculate_output: expected {sign or 'its end'} and found {self._shown()}")
        self._at += 1

    def _product(self, levels: int) -> Term:
        parts = [("*", self._signed(levels))]
        while (sign := self._sign()) in ("*", "/"):
            self._at += 1
            parts.append((sign, self._signed(levels)))
        return parts[0][1] if len(parts) == 1 else _multiplied(parts)

    def _signed(self, levels: int) -> Term:
        if not levels:
            raise GraderInvalid(f"calculate_output is nested more than {MOST_LEVELS} levels deep")
        sign = self._sign()
        if sign in ("+", "-"):
            self._at += 1
            term = self._signed(levels - 1)
            return _negated(term) if sign == "-" else term
        return self._power(levels)

    def _power(self, levels: int) -> Term:
        term = self._atom(levels)
        if self._sign() != "^":
            return term
        self._at += 1
        return _raised(term, self._signed(levels - 1))

    def _atom(self, levels: int) -> Term:
        number, name, sign = self._token()
        if not (number or name or sign == "("):
            raise GraderInvalid(f"calculate_output: expected a number, a grader or a bracket and found {self._shown()}")
        self._at += 1
        if number:
            return _constant(float(number))
        if sign:
            term = self.sum(levels - 1)
            self.expect(")")
            return term
        if self._sign() == "(":
            return self._call(name, levels)
        self.variables.add(name)
        return _variable(name)

    def _call(self, name: str, levels: int) -> Term:
        if name not in FUNCTIONS:
            raise GraderInvalid(f"calculate_output: there is no function {name[:64]}; there are {', '.join(FUNCTIONS)}")
        self._at += 1
        values = [self.sum(levels - 1)]
        while self._sign() == ",":
            self._at += 1
            values.append(self.sum(levels - 1))
        self.expect(")")
        if (name in _SEVERAL) != (len(values) > 1):
            wanted = "two or more values" if name in _SEVERAL else "one value"
            raise GraderInvalid(f"calculate_output: {name} takes {wanted}, not {len(values)}")
        return _called(FUNCTIONS[name], values)

    def _token(self) -> tuple[str, str, str]:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("", "", _END)

    def _sign(self) -> str:
        return self._token()[2]

    def _shown(self) -> str:
        return "".join(self._token())[:64] or "its end"


def _constant(number: float) -> Term:
    return lambda values: number


def _variable(name: str) -> Term:
    return lambda values: values[name]


def _negated(term: Term) -> Term:
    return lambda values: -term(values)


def _summed(parts: Sequence[tuple[float, Term]]) -> Term:
    return lambda values: sum(factor * term(values) for factor, term in parts)


def _multiplied(parts: Sequence[tuple[str, Term]]) -> Term:
    def product(values: Mapping[str, float]) -> float:
        result = 1.0
        for sign, term in parts:
            result = result * term(values) if sign == "*" else result / term(values)
        return result

    return product


def _raised(left: Term, right: Term) -> Term:
    # `math.pow` raises where `**` would return a complex number.
    return lambda values: math.pow(left(values), right(values))


def _called(function: Callable[..., float], terms: list[Term]) -> Term:
    return lambda values: function(*(term(values) for term in terms))
