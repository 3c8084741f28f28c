"""Evaluations that a client runs with an outside tool: it reports every answer, and this gateway scores them."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter
from pydantic import Field

from evaluation.scores import ScoredRow, scores_of
from gateway.admin.evaluating.evaluation_answers import evaluation_object
from gateway.deps import AuthorDep, CallerDep, GatewayDep, KnownQuery
from gateway.errors import InvalidRequest
from gateway.evaluations.suites import pin_for
from gateway.keys.caller import Caller
from gateway.objects.evaluating.evaluations import EvaluationObject
from gateway.openai.types import Body
from gateway.routing.pinned_weights import why_changed
from registry.database import Registry
from registry.evaluations.evaluation import (
    LORRY,
    Evaluation,
    EvaluationAnswer,
    EvaluationDraft,
    EvaluationHold,
)
from registry.keys import Scope

router = APIRouter(prefix="/admin/evaluations", dependencies=[KnownQuery], tags=["evaluations"])

MOST_REPORTED: Final = 2000
"""Answers of one request."""
MOST_ROWS: Final = 20_000
Text = Annotated[str, Field(max_length=16_384)]


class BeginOutside(Body):
    """Body of `POST /admin/evaluations/outside`."""

    model: Annotated[str, Field(min_length=1, max_length=256)]
    tool: Literal["lm-eval", "evalscope"]
    tasks: Annotated[list[Annotated[str, Field(min_length=1, max_length=200)]], Field(min_length=1, max_length=100)]
    limit: Annotated[int, Field(ge=1)] | None = None
    timeout_s: Annotated[float, Field(ge=1, le=604800)] = 86400.0


class ReportedAnswer(Body):
    """The answer to one row, as the tool scored it."""

    row_id: Annotated[str, Field(min_length=1, max_length=200)]
    prompt: Text
    answer: Text
    target: Text = ""
    score: Annotated[float, Field(ge=-1e9, le=1e9)]
    passed: bool
    tags: Annotated[list[Annotated[str, Field(min_length=1, max_length=200)]], Field(max_length=20)] = Field(
        default_factory=list
    )


class ReportAnswers(Body):
    """Body of `POST /admin/evaluations/{evaluation_id}/outside/answers`; `first_row` counts from 1."""

    first_row: Annotated[int, Field(ge=1, le=MOST_ROWS)]
    answers: Annotated[list[ReportedAnswer], Field(min_length=1, max_length=MOST_REPORTED)]


class EndOutside(Body):
    """Body of `POST /admin/evaluations/{evaluation_id}/outside/end`: the number of rows, or why there is no score."""

    rows: Annotated[int, Field(ge=1, le=MOST_ROWS)] | None = None
    metrics: Annotated[dict[str, dict[str, Any]], Field(max_length=200)] = Field(default_factory=dict)
    """Task -> the metrics that the tool reports, with their standard errors."""
    versions: Annotated[dict[str, str], Field(max_length=20)] = Field(default_factory=dict)
    failure: Annotated[str, Field(min_length=1, max_length=4000)] | None = None


@router.post("/outside", status_code=201)
async def begin_outside(body: BeginOutside, gateway: GatewayDep, author: AuthorDep) -> EvaluationObject:
    """Begin an evaluation that the caller runs with an outside tool, of the pinned name in the answer."""
    caller = author.caller
    gateway.keyring.check(caller, Scope.INFERENCE)
    await gateway.feed.refresh()

    def begin() -> Evaluation:
        registry = gateway.registry
        draft = EvaluationDraft(
            asked_name=body.model,
            model=pin_for(registry, caller, gateway.feed.table, body.model),
            judges={},
            suite_name=f"{body.tool}:{','.join(body.tasks)}",
            suite_digest="",
            total=0,
            owner=author.name,
            tenant=caller.tenant,
            key_id=caller.key_id,
            timeout_s=body.timeout_s,
            tool=body.tool,
            detail={"tasks": body.tasks, "limit": body.limit},
        )
        created = registry.evaluations.create(draft)
        registry.evaluations.claim(created, f"client:{author.name}")
        return registry.evaluations.get(created.id)

    return evaluation_object(await gateway.ask(begin))


@router.post("/{evaluation_id}/outside/answers")
async def report_answers(
    evaluation_id: str, body: ReportAnswers, gateway: GatewayDep, caller: CallerDep
) -> EvaluationObject:
    """Keep answers of an outside tool; a row that has one keeps it."""

    def keep() -> Evaluation:
        hold = _hold(gateway.registry, caller, evaluation_id)
        answers = [
            EvaluationAnswer(
                row=row,
                row_id=each.row_id,
                answer=each.answer,
                score=each.score,
                has_passed=each.passed,
                tags=each.tags,
                prompt=each.prompt,
                target=each.target,
            )
            for row, each in enumerate(body.answers, body.first_row)
        ]
        gateway.registry.evaluations.record(hold, answers)
        return gateway.registry.evaluations.get(evaluation_id)

    return evaluation_object(await gateway.ask(keep))


@router.post("/{evaluation_id}/outside/end")
async def end_outside(evaluation_id: str, body: EndOutside, gateway: GatewayDep, caller: CallerDep) -> EvaluationObject:
    """End the evaluation with scores over the reported answers, or as failed; 409 unless every row has its answer."""
    if (body.rows is None) == (body.failure is None):
        raise InvalidRequest("give rows, or failure: either every row has an answer, or there is no score")

    def end() -> Evaluation:
        registry = gateway.registry
        hold, store = _hold(registry, caller, evaluation_id), registry.evaluations
        if body.failure is not None:
            return store.fail(hold, "tool_failed", body.failure)
        if (changed := why_changed(registry, store.get(evaluation_id).model)) is not None:
            return store.fail(hold, "model_changed", changed)
        answers = store.answers(evaluation_id)
        if len({each.row_id for each in answers}) < len(answers):
            raise InvalidRequest("answers: two rows have the same row_id", param="answers")
        store.set_rows(hold, int(body.rows or 0), digest_of(store.get(evaluation_id), answers))
        scores = scores_of([_scored(each) for each in answers]).as_json() if answers else {}
        return store.complete(hold, scores, {"metrics": body.metrics, "versions": body.versions})

    return evaluation_object(await gateway.ask(end))


def digest_of(evaluation: Evaluation, answers: list[EvaluationAnswer]) -> str:
    """Return the digest by which evaluations of the same tasks are comparable: of the tool and what its rows asked."""
    rows = [[each.row_id, each.prompt, each.target] for each in answers]
    return sha256(json.dumps([evaluation.tool, rows], sort_keys=True).encode()).hexdigest()


def _scored(answer: EvaluationAnswer) -> ScoredRow:
    return ScoredRow(id=answer.row_id, score=answer.score, has_passed=answer.has_passed, tags=tuple(answer.tags))


def _hold(registry: Registry, caller: Caller, evaluation_id: str) -> EvaluationHold:
    found = registry.evaluations.get(evaluation_id, caller.sees)
    if found.tool == LORRY:
        raise InvalidRequest(f"{found.id} is run by gateways; only those of outside tools are reported")
    return EvaluationHold(evaluation_id=found.id, attempt=found.attempt, holder=str(found.holder))
