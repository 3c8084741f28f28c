"""Check an answer: one function for each kind of check."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from evaluation.checks.judging import compare, rate
from evaluation.checks.normalize import NORMAL_FORMS, without_fence
from evaluation.checks.patterns import is_found
from evaluation.checks.schemas import fault_of_answer
from evaluation.checks.specs import (
    CheckSpec,
    ContainsCheck,
    ExactCheck,
    GraderCheck,
    JudgeCheck,
    PairwiseCheck,
    RegexCheck,
    RougeCheck,
    SchemaCheck,
)
from graders.errors import Fault, GradingFailed
from graders.grade import Message, Models, Sample
from graders.similarity import similarity

LONGEST_CHECKED: Final = 100_000
"""Characters of an answer that checks look at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """The outcome of a check."""

    score: float
    """From 0 to 1; a grader's may lie outside."""
    has_passed: bool
    why: str = ""
    """The finding of the check, for people; empty where the score is enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """An answer, the conversation that it ends, and the models that checks may ask."""

    messages: Sequence[Message]
    text: str
    models: Models


def check_answer(checks: Sequence[CheckSpec], answered: Answered) -> Checked:
    """Return the lowest score of all *checks*, passed if all are. `GradingFailed` where a model gave no verdict."""
    found = [_CHECKING[check.kind](check, answered) for check in checks]
    if not all(math.isfinite(each.score) for each in found):
        raise GradingFailed(Fault.OTHER, "the score is not a finite number")
    return Checked(
        score=min(each.score for each in found),
        has_passed=all(each.has_passed for each in found),
        why="; ".join(each.why for each in found if each.why),
    )


def _yes_or_no(holds: bool, why: str = "") -> Checked:
    return Checked(score=float(holds), has_passed=holds, why="" if holds else why)


def _listed(texts: str | list[str] | None) -> list[str]:
    return [texts] if isinstance(texts, str) else texts or []


def _exact(check: ExactCheck, answered: Answered) -> Checked:
    normal = NORMAL_FORMS[check.normalize]
    return _yes_or_no(normal(answered.text) in {normal(text) for text in _listed(check.expect)})


def _contains(check: ContainsCheck, answered: Answered) -> Checked:
    fold = str.casefold if check.ignore_case else str
    text = fold(answered.text)
    wanted = _listed(check.expect)
    missing = [each for each in wanted if fold(each) not in text]
    if unwanted := [each for each in _listed(check.unless) if fold(each) in text]:
        return _yes_or_no(False, f"has {unwanted[0]!r}")
    is_there = len(missing) < len(wanted) if check.any and wanted else not missing
    return _yes_or_no(is_there, f"lacks {missing[0]!r}" if missing else "")


def _regex(check: RegexCheck, answered: Answered) -> Checked:
    text = answered.text[:LONGEST_CHECKED]
    return _yes_or_no(is_found(check.pattern, text, whole=check.whole, ignore_case=check.ignore_case))


def _schema(check: SchemaCheck, answered: Answered) -> Checked:
    text = without_fence(answered.text) if check.fenced else answered.text
    try:
        value = json.loads(text[:LONGEST_CHECKED])
    except (ValueError, RecursionError):
        return _yes_or_no(False, "is not JSON")
    fault = fault_of_answer(check.json_schema, value)
    return _yes_or_no(fault is None, fault or "")


def _rouge(check: RougeCheck, answered: Answered) -> Checked:
    score = max(similarity("rouge_l", answered.text, each) for each in _listed(check.reference))
    return Checked(score=score, has_passed=score >= check.pass_at)


def _judge(check: JudgeCheck, answered: Answered) -> Checked:
    score = rate(answered.models, check.model, check.rubric, answered.messages, answered.text)
    return Checked(score=score, has_passed=score >= check.pass_at, why=f"{1 + 4 * score:g} of 5 points")


def _pairwise(check: PairwiseCheck, answered: Answered) -> Checked:
    texts = (answered.text, check.reference)
    score, verdicts = compare(answered.models, check.model, check.rubric, answered.messages, texts)
    why = f"verdicts {verdicts[0]} and, with places swapped, {verdicts[1]}"
    return Checked(score=score, has_passed=score >= check.pass_at, why=why)


def _grader(check: GraderCheck, answered: Answered) -> Checked:
    from graders.grading import Means, grade  # loads the sandbox's client, which no other check needs

    sample = Sample(output_text=answered.text, item=check.item, messages=answered.messages)
    grade_ = grade(check.parsed(), sample, Means(models=answered.models, reward_models=_NoRewardModels()))
    if grade_.is_graders_fault:
        fault, message = next(iter(grade_.faults.items()))
        raise GradingFailed(fault, message)
    why = "; ".join(grade_.faults.values())
    return Checked(score=grade_.reward, has_passed=not grade_.faults and grade_.reward >= check.pass_at, why=why)


class _NoRewardModels:
    """Stands for reward models, which the check of a suite refuses."""

    def score(self, model: str, chats: Sequence[Sequence[Message]]) -> Sequence[float]:
        """Raise `GradingFailed`."""
        raise GradingFailed(Fault.OTHER, f"{model} scores in jobs only")


_CHECKING: Final[Mapping[str, Callable[[Any, Answered], Checked]]] = {
    "exact": _exact,
    "contains": _contains,
    "regex": _regex,
    "json_schema": _schema,
    "rouge_l": _rouge,
    "judge": _judge,
    "pairwise": _pairwise,
    "grader": _grader,
}
"""`kind` of a check -> the function that decides."""
