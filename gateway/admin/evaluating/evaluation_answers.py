"""Evaluations of the registry as the API shows them, and their comparison row by row."""

from __future__ import annotations

from evaluation.errors import NotComparable
from evaluation.scores import ScoredRow, compare_rows
from gateway.objects.evaluating.evaluations import (
    AnswerObject,
    ComparisonObject,
    EvaluationObject,
    EvaluationStory,
)
from registry.database import Registry
from registry.errors import NotFound
from registry.evaluations.evaluation import Evaluation, EvaluationAnswer
from registry.evaluations.evaluation_state import EvaluationState


def evaluation_object(evaluation: Evaluation) -> EvaluationObject:
    """Return the JSON object of an evaluation."""
    return EvaluationObject.model_validate(_fields(evaluation))


def evaluation_story(registry: Registry, evaluation: Evaluation) -> EvaluationStory:
    """Return the evaluation with its comparison to the stable's latest one of the same suite."""
    stable = _stable_beside(registry, evaluation)
    beside = None if stable is None else compare(registry, evaluation, stable)
    return EvaluationStory.model_validate({**_fields(evaluation), "beside_stable": beside})


def answer_object(answer: EvaluationAnswer) -> AnswerObject:
    """Return the JSON object of an answer."""
    names = AnswerObject.model_fields.keys() - {"passed", "tags"}
    fields = {name: getattr(answer, name) for name in names}
    return AnswerObject.model_validate({**fields, "passed": answer.has_passed, "tags": list(answer.tags)})


def compare(registry: Registry, first: Evaluation, second: Evaluation) -> ComparisonObject:
    """Return the paired comparison of two completed evaluations. Raises `NotComparable`."""
    for each in (first, second):
        if each.state is not EvaluationState.COMPLETED:
            raise NotComparable(f"{each.id} is {each.state}: only evaluations with all their answers are compared")
    if first.suite_digest != second.suite_digest:
        raise NotComparable(
            f"{first.id} asked {first.suite_name} ({first.suite_digest[:12]}) and {second.id} asked "
            f"{second.suite_name} ({second.suite_digest[:12]}): only the same rows are compared"
        )
    if judges_of(first) != judges_of(second):
        raise NotComparable(f"{first.id} and {second.id} had judges with other weights")
    answers, others = registry.evaluations.answers(first.id), registry.evaluations.answers(second.id)
    found = compare_rows([_scored(each) for each in answers], [_scored(each) for each in others])
    passed = {each.row_id for each in answers if each.has_passed}
    passed_other = {each.row_id for each in others if each.has_passed}
    return ComparisonObject(
        first=first.id,
        second=second.id,
        first_model=first.model.served_name,
        second_model=second.model.served_name,
        first_score=_score(first),
        second_score=_score(second),
        suite=first.suite_name,
        suite_digest=first.suite_digest,
        rows=len(answers),
        difference=found.difference,
        low=found.interval.low,
        high=found.interval.high,
        lower_bound=found.lower_bound,
        p_scores=found.p_scores,
        p_passed=found.p_passed,
        only_first=[each.row_id for each in answers if each.row_id in passed - passed_other],
        only_second=[each.row_id for each in answers if each.row_id in passed_other - passed],
    )


def judges_of(evaluation: Evaluation) -> dict[str, str]:
    """Return the digest of each judge by its name in the suite."""
    return {name: judge.digest for name, judge in evaluation.judges.items()}


def _stable_beside(registry: Registry, evaluation: Evaluation) -> Evaluation | None:
    """Return the latest evaluation of the stable revision that is comparable; None for the stable itself."""
    adapter = evaluation.model.adapter
    if adapter is None or evaluation.state is not EvaluationState.COMPLETED:
        return None
    try:
        number = registry.adapters.get(adapter).stable
    except NotFound:
        return None
    name = f"{adapter}@{number}"
    if number is None or name == evaluation.model.served_name:
        return None
    found = registry.evaluations.list(
        served_name=name,
        suite_digest=evaluation.suite_digest,
        state=EvaluationState.COMPLETED,
        tenant=evaluation.tenant,
    )
    return next((each for each in found if judges_of(each) == judges_of(evaluation)), None)


def _scored(answer: EvaluationAnswer) -> ScoredRow:
    return ScoredRow(id=answer.row_id, score=answer.score, has_passed=answer.has_passed, weight=answer.weight)


def _score(evaluation: Evaluation) -> float:
    return float((evaluation.scores or {})["overall"]["score"])


def _fields(evaluation: Evaluation) -> dict[str, object]:
    names = EvaluationObject.model_fields.keys() & set(Evaluation.__dataclass_fields__)
    fields: dict[str, object] = {name: getattr(evaluation, name) for name in names}
    return fields | {
        "model": evaluation.model.as_json(),
        "judges": {name: judge.as_json() for name, judge in evaluation.judges.items()},
        "suite": evaluation.suite_name,
        "rollout": evaluation.rollout_id,
        "gateway": evaluation.holder,
        "waits_for": evaluation.note or None,
    }
