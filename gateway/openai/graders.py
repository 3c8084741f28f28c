"""`/v1/fine_tuning/alpha/graders`: validate a grader, or run it on one sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter, Request
from pydantic import Field

from gateway.deps import CallerDep, Gateway, GatewayDep, KnownQuery
from gateway.errors import InvalidRequest, ModelNotAllowed, ModelNotFound, NothingStable
from gateway.keys.access import check_model, unknown_model
from gateway.keys.caller import Caller
from gateway.objects.graders import GraderRun, ValidGrader, grader_run
from gateway.openai.reward_graders import find_reward_models
from gateway.openai.types import Body
from gateway.routing.routing import resolve
from graders.errors import Fault, GradingFailed, SandboxMissing
from graders.grade import Message, Sample
from graders.grading import Means, grade
from graders.http_models import HttpModels
from graders.sandbox.sandbox import run_grader
from registry.contracts.graders.grader_kinds import parse_grader
from registry.contracts.graders.grader_spec import GraderSpec
from registry.errors import GraderInvalid

router = APIRouter(prefix="/v1/fine_tuning/alpha/graders", dependencies=[KnownQuery], tags=["fine-tuning"])

CREDENTIALS: Final = ("authorization", "x-api-key", "api-key")
"""Headers that carry a caller's key."""
LONGEST_SAMPLE: Final = 1_000_000


class ValidateGrader(Body):
    """Body of `POST .../validate`."""

    grader: dict[str, Any]


class RunGrader(Body):
    """Body of `POST .../run`."""

    grader: dict[str, Any]
    model_sample: Annotated[str, Field(max_length=LONGEST_SAMPLE)]
    """The output of a model; JSON in it is `sample.output_json`."""
    item: dict[str, Any] = Field(default_factory=dict)
    """A row of a data set."""


@router.post("/validate")
async def validate_grader(body: ValidateGrader, gateway: GatewayDep, caller: CallerDep) -> ValidGrader:
    """Check a grader as a fine-tuning job would; 400 names the field at fault."""
    await check_grader(_parsed(body.grader), gateway, caller)
    return ValidGrader(grader=body.grader)


@router.post("/run")
async def run_grader_on_sample(body: RunGrader, request: Request, gateway: GatewayDep, caller: CallerDep) -> GraderRun:
    """Grade one sample. Errors of the sample stand in `metadata.errors`, and the reward is 0."""
    grader = _parsed(body.grader)
    _check_models(grader, gateway, caller)
    sample = Sample(output_text=body.model_sample, item=body.item)
    models = HttpModels(_own_url(request), _credentials(request))
    means = Means(models=models, reward_models=_NoRewardModels())
    try:
        graded = await gateway.grader_runs.run(partial(grade, grader, sample, means))
    finally:
        models.close()
    return grader_run(grader, graded)


async def check_grader(grader: GraderSpec, gateway: Gateway, caller: Caller, place: str = "grader") -> None:
    """Raise `InvalidRequest` for a grader that *caller* could not use; sources of Python graders are tried.

    *place* is the path of the grader in the request.
    """
    _check_models(grader, gateway, caller, place)
    await gateway.ask(find_reward_models, (grader,), gateway.registry, caller, place)
    for where, source in grader.sources().items():
        field = f"{place}.{where}"
        try:
            await gateway.grader_runs.run(partial(run_grader, source, None))
        except (GradingFailed, SandboxMissing) as exc:
            raise InvalidRequest(f"{field}: {exc}", param=field) from exc


def _parsed(fields: Mapping[str, Any]) -> GraderSpec:
    try:
        return parse_grader(fields)
    except GraderInvalid as exc:
        raise InvalidRequest(str(exc), param=exc.param) from exc


def _check_models(grader: GraderSpec, gateway: Gateway, caller: Caller, place: str = "grader") -> None:
    table = gateway.feed.table
    for model in sorted(grader.asked_models()):
        try:
            check_model(caller, table, model)
            resolve(table, model, sticky_key="")
        except ModelNotFound as exc:
            text = f"{place}.model: {unknown_model(caller, table, model)}"
            raise InvalidRequest(text, param=f"{place}.model") from exc
        except (ModelNotAllowed, NothingStable) as exc:
            raise InvalidRequest(f"{place}.model: {exc}", param=f"{place}.model") from exc


def _own_url(request: Request) -> str:
    """Return the address at which this request came in: a header could name any other."""
    host, port = request.scope["server"]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _credentials(request: Request) -> Mapping[str, str]:
    return {name: value for name in CREDENTIALS if (value := request.headers.get(name)) is not None}


class _NoRewardModels:
    """The reward models of a gateway, which has no torch: none."""

    def score(self, model: str, chats: Sequence[Sequence[Message]]) -> Sequence[float]:
        """Raise `GradingFailed`."""
        raise GradingFailed(Fault.OTHER, f"the reward model {model} is run by trainers only, in jobs that name it")
