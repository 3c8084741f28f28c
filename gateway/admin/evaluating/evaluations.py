"""`/admin/evaluations`: create, list, show, answers, compare, cancel, resume, delete; the report as a page."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Response
from fastapi.responses import HTMLResponse
from pydantic import Field

from evaluation.builtin import BUILTIN, NAMES, builtin_suite
from evaluation.page.page import POLICY, ReportedEvaluation, page_of
from gateway.admin.evaluating.evaluation_answers import (
    answer_object,
    compare,
    evaluation_object,
    evaluation_story,
)
from gateway.deps import ActorDep, AuthorDep, CallerDep, Gateway, GatewayDep, KnownQuery
from gateway.errors import InvalidRequest
from gateway.evaluations.suites import find_suite, judges_for, keep_suite, pin_for
from gateway.keys.caller import Caller
from gateway.objects.evaluating.evaluations import (
    AnswerObject,
    ComparisonObject,
    DeletedEvaluation,
    EvaluationObject,
    EvaluationStory,
    SuiteObject,
)
from gateway.objects.lists import ObjectList
from gateway.openai.types import Body
from registry.database import Registry
from registry.evaluations.evaluation import Evaluation, EvaluationDraft
from registry.evaluations.evaluation_state import EvaluationState
from registry.keys import Scope

router = APIRouter(prefix="/admin/evaluations", dependencies=[KnownQuery], tags=["evaluations"])

PAGE: Final[dict[int | str, dict[str, Any]]] = {200: {"content": {"text/html": {"schema": {"type": "string"}}}}}
MOST_COMPARED: Final = 200
"""Evaluations among which the latest of a name is looked for."""


class CreateEvaluation(Body):
    """Body of `POST /admin/evaluations`."""

    model: Annotated[str, Field(min_length=1, max_length=256)]
    """Any name that the gateway serves; what it stands for now is asked to the end."""
    suite: Annotated[str, Field(min_length=1, max_length=256)] | dict[str, Any]
    """`builtin:NAME`, the digest of a stored suite, the id of an uploaded file, or the suite itself."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Ask the first rows only; they are a suite with a digest of its own."""
    concurrency: Annotated[int, Field(ge=1, le=64)] = 4
    """Rows that are asked at a time, behind the requests of clients."""
    timeout_s: Annotated[float, Field(ge=1, le=604800)] = 86400.0
    """Time for the whole evaluation."""


class CompareEvaluations(Body):
    """Body of `POST /admin/evaluations/compare`; each side is the id of an evaluation, or a name's latest one."""

    first: Annotated[str, Field(min_length=1, max_length=256)]
    second: Annotated[str, Field(min_length=1, max_length=256)]
    suite: Annotated[str, Field(min_length=1, max_length=256)] | dict[str, Any] | None = None
    """The suite whose evaluations are compared, where a side is a name; by default that of the first side's latest."""


@router.post("", status_code=201)
async def create_evaluation(body: CreateEvaluation, gateway: GatewayDep, author: AuthorDep) -> EvaluationObject:
    """Ask a suite of a model; the gateways ask its rows beside all other requests, at low priority."""
    caller = author.caller
    gateway.keyring.check(caller, Scope.INFERENCE)
    await gateway.feed.refresh()

    def create() -> Evaluation:
        registry, table = gateway.registry, gateway.feed.table
        model = pin_for(registry, caller, table, body.model)
        whole = find_suite(registry, caller, body.suite, "suite")
        suite = whole.limited(body.limit)
        judges = judges_for(registry, caller, table, suite)
        keep_suite(registry, suite, caller.tenant)
        is_builtin = isinstance(body.suite, str) and body.suite.startswith(BUILTIN)
        name = str(body.suite) if is_builtin else suite.name
        draft = EvaluationDraft(
            asked_name=body.model,
            model=model,
            judges=judges,
            suite_name=name if suite is whole else f"{name} ({len(suite.rows)} rows)",
            suite_digest=suite.digest,
            total=len(suite.rows),
            owner=author.name,
            tenant=caller.tenant,
            key_id=caller.key_id,
            timeout_s=body.timeout_s,
            concurrency=body.concurrency,
        )
        return registry.evaluations.create(draft)

    return evaluation_object(await gateway.ask(create))


@router.get("")
async def list_evaluations(  # noqa: PLR0913  a parameter for each filter
    gateway: GatewayDep,
    caller: CallerDep,
    model: str | None = None,
    adapter: str | None = None,
    suite: str | None = None,
    state: EvaluationState | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> ObjectList[EvaluationObject]:
    """List evaluations, newest first; `model` is a served name, `suite` a digest."""
    found = await gateway.ask(
        gateway.registry.evaluations.list,
        served_name=model,
        adapter=adapter,
        suite_digest=suite,
        state=state,
        tenant=caller.sees,
        limit=limit,
    )
    return ObjectList(data=[evaluation_object(each) for each in found])


@router.get("/suites")
async def list_suites() -> ObjectList[SuiteObject]:
    """List the suites that ship with Lorry."""
    suites = [(f"{BUILTIN}{name}", builtin_suite(name)) for name in NAMES]
    return ObjectList(
        data=[
            SuiteObject(name=name, digest=suite.digest, rows=len(suite.rows), description=suite.description)
            for name, suite in suites
        ]
    )


@router.post("/compare")
async def compare_evaluations(body: CompareEvaluations, gateway: GatewayDep, caller: CallerDep) -> ComparisonObject:
    """Compare two evaluations row by row; 409 unless both asked the same suite and have all their answers."""

    await gateway.feed.refresh()

    def compared() -> ComparisonObject:
        registry = gateway.registry
        digest = None if body.suite is None else find_suite(registry, caller, body.suite, "suite").digest
        first = _named(gateway, caller, body.first, digest, "first")
        second = _named(gateway, caller, body.second, digest or first.suite_digest, "second")
        return compare(registry, first, second)

    return await gateway.ask(compared)


@router.get("/{evaluation_id}")
async def show_evaluation(evaluation_id: str, gateway: GatewayDep, caller: CallerDep) -> EvaluationStory:
    """Show one evaluation, beside the stable's where it is of another revision."""
    return await gateway.ask(lambda: evaluation_story(gateway.registry, _seen(gateway.registry, caller, evaluation_id)))


@router.get("/{evaluation_id}/answers")
async def list_answers(
    evaluation_id: str,
    gateway: GatewayDep,
    caller: CallerDep,
    after: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
    limit: Annotated[int, Query(ge=1, le=2000)] = 1000,
) -> ObjectList[AnswerObject]:
    """List the answers so far in the order of their rows, those behind the row `after`."""
    found = await gateway.ask(_seen, gateway.registry, caller, evaluation_id)
    answers = await gateway.ask(gateway.registry.evaluations.answers, found.id, after, limit)
    return ObjectList(data=[answer_object(each) for each in answers])


@router.get("/{evaluation_id}/report", responses=PAGE, response_class=HTMLResponse)
async def show_report(evaluation_id: str, gateway: GatewayDep, caller: CallerDep) -> Response:
    """Show a completed evaluation as a page that stands alone."""

    def page() -> str:
        registry = gateway.registry
        story = evaluation_story(registry, _seen(registry, caller, evaluation_id))
        if story.scores is None:
            raise InvalidRequest(f"{story.id} is {story.state}: only an evaluation with all its answers has a report")
        answers = [answer_object(each).model_dump() for each in registry.evaluations.answers(story.id)]
        others: dict[str, Any] = {}
        if story.beside_stable is not None:
            found = registry.evaluations.answers(story.beside_stable.second)
            others = {each.row_id: answer_object(each).model_dump() for each in found}
        reported = ReportedEvaluation(evaluation=story.model_dump(mode="json"), answers=answers, stable_answers=others)
        return page_of(reported)

    headers = {"content-security-policy": POLICY, "x-content-type-options": "nosniff"}
    return HTMLResponse(await gateway.ask(page), headers=headers)


@router.post("/{evaluation_id}/cancel")
async def cancel_evaluation(
    evaluation_id: str, gateway: GatewayDep, caller: CallerDep, actor: ActorDep
) -> EvaluationObject:
    """Cancel an evaluation; the answers so far stay, and it may be resumed."""
    cancel = gateway.registry.evaluations.cancel
    return evaluation_object(await gateway.ask(cancel, evaluation_id, actor, caller.sees))


@router.post("/{evaluation_id}/resume")
async def resume_evaluation(
    evaluation_id: str, gateway: GatewayDep, caller: CallerDep, actor: ActorDep
) -> EvaluationObject:
    """Go on with a failed or cancelled evaluation, with the rights of this key; rows with an answer keep it."""
    gateway.keyring.check(caller, Scope.INFERENCE)
    resume = gateway.registry.evaluations.resume
    return evaluation_object(await gateway.ask(resume, evaluation_id, (actor, caller.key_id), caller.sees))


@router.delete("/{evaluation_id}")
async def delete_evaluation(
    evaluation_id: str, gateway: GatewayDep, caller: CallerDep, actor: ActorDep
) -> DeletedEvaluation:
    """Remove an evaluation that has ended, with its answers; 409 for the gate of a rollout."""
    await gateway.ask(gateway.registry.evaluations.delete, evaluation_id, actor, caller.sees)
    return DeletedEvaluation(id=evaluation_id)


def _seen(registry: Registry, caller: Caller, evaluation_id: str) -> Evaluation:
    return registry.evaluations.get(evaluation_id, caller.sees)


def _named(gateway: Gateway, caller: Caller, name: str, digest: str | None, param: str) -> Evaluation:
    """Return the evaluation of this id, or the latest completed one of the model of this name."""
    registry = gateway.registry
    if name.startswith("eval_"):
        return _seen(registry, caller, name)
    model = pin_for(registry, caller, gateway.feed.table, name, param)
    found = registry.evaluations.list(
        served_name=model.served_name,
        suite_digest=digest,
        state=EvaluationState.COMPLETED,
        tenant=caller.sees,
        limit=MOST_COMPARED,
    )
    of_weights = next((each for each in found if each.model.digest == model.digest), None)
    if of_weights is None:
        suite = "" if digest is None else f" of the suite {digest[:12]}"
        raise InvalidRequest(
            f"{param}: {model.served_name} has no completed evaluation{suite}; run one first", param=param
        )
    return of_weights
