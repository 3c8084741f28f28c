"""`POST /admin/estimates`: what a training job, or an engine that serves a model, would take, before it starts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter
from pydantic import Field

from engines.hardware.wishes import Wishes
from engines.kinds import Precision
from estimates.asked import job_spec
from estimates.data_shape import DataShape
from estimates.errors import EstimateError
from estimates.model_config import ModelConfig, model_config, read_model_config
from estimates.serving import estimate_serving
from estimates.training import estimate_training
from estimates.usual import USUAL_LENGTH, USUAL_ROWS, AskedDevice
from gateway.deps import CallerDep, Gateway, GatewayDep
from gateway.errors import InvalidRequest
from gateway.estimate_answers import serving_answer, training_answer
from gateway.keys.caller import Caller
from gateway.objects.estimates import ServingEstimateObject, TrainingEstimateObject
from gateway.openai.job_measurements import measured_like
from gateway.openai.job_request import Uploads, find_base, method_options
from gateway.openai.types import DEFAULT_HYPERPARAMETERS, METHOD, Body, MethodBody, as_model
from registry.contracts.fine_tune_spec import FineTuneSpec
from registry.contracts.hyperparameters import Hyperparameters
from registry.contracts.job_kinds import FINE_TUNING_KINDS, FINE_TUNING_METHODS

router = APIRouter(prefix="/admin/estimates", tags=["jobs"])

MOST_TOKENS: Final = 10_000_000
"""Longest row and context that an estimate is made for."""


class EngineWishes(Body):
    """How an engine should serve the model; what is left out is chosen."""

    engine: str | None = None
    precision: Precision | None = None
    context: Annotated[int, Field(ge=1, le=MOST_TOKENS)] | None = None
    batch: Annotated[int, Field(ge=1, le=100_000)] | None = None
    adapters: Annotated[int, Field(ge=0, le=10_000)] | None = None
    rank: Annotated[int, Field(ge=1, le=512)] = 64
    tensor_parallel: Annotated[int, Field(ge=1, le=64)] | None = None

    def wishes(self) -> Wishes:
        """Return them as the choice of an engine takes them."""
        given = self.model_dump(exclude={"engine"})
        return Wishes(kind=self.engine, **given)


class EstimateRequest(Body):
    """The body of `POST /admin/estimates`: a model, what is to be done with it, and where."""

    work: Literal["train", "serve"] = "train"
    model: str | None = None
    """Name of a base model of this Lorry."""
    config: dict[str, Any] | None = None
    """The fields of a `config.json`, for a model that is not here."""
    method: Annotated[MethodBody, as_model(METHOD)] | None = None
    """As for a fine-tuning job."""
    hyperparameters: Annotated[Hyperparameters, as_model(DEFAULT_HYPERPARAMETERS)] | None = None
    training_file: str | None = None
    """Id of an uploaded file; its lengths count."""
    rows: Annotated[int, Field(ge=1, le=10**9)] | None = None
    length: Annotated[int, Field(ge=2, le=MOST_TOKENS)] | None = None
    """Tokens of a row, where there is no file."""
    learnt: Annotated[int, Field(ge=1, le=MOST_TOKENS)] | None = None
    """Tokens of a row that are learnt; half of them if left out."""
    validation_rows: Annotated[int, Field(ge=1, le=10**9)] | None = None
    """Rows of the validation file, about as long as those of the training file; none if left out."""
    serve: EngineWishes | None = None
    device: str | None = None
    """Name of a known device, such as `h100` or `4xa100-80`; this machine's own if left out."""
    memory: str | None = None
    """Memory of the device, such as `24GiB`, in place of its own."""
    threads: Annotated[int, Field(ge=1, le=1024)] = 1
    """CPU threads of a job on this machine, as `threads` of the trainer has them."""


@router.post("")
async def estimate(
    body: EstimateRequest, gateway: GatewayDep, caller: CallerDep
) -> TrainingEstimateObject | ServingEstimateObject:
    """Estimate memory, time and what fits, for a training job or for an engine; nothing is queued."""
    return await gateway.ask(_answer, body, gateway, caller)


def _answer(body: EstimateRequest, gateway: Gateway, caller: Caller) -> TrainingEstimateObject | ServingEstimateObject:
    _check_fields(body)
    try:
        return _serving(body, gateway, caller) if body.work == "serve" else _training(body, gateway, caller)
    except EstimateError as exc:
        raise InvalidRequest(exc.message, param=exc.param) from exc


_OF_TRAINING: Final = ("method", "hyperparameters", "training_file", "rows", "length", "learnt", "validation_rows")
_OF_LENGTHS: Final = ("rows", "length", "learnt")


def _check_fields(body: EstimateRequest) -> None:
    """Raise `InvalidRequest` for fields that do not go together."""
    if (body.model is None) == (body.config is None):
        raise InvalidRequest("give model, the name of a base model, or config, the fields of a config.json", "model")
    given = body.model_dump(exclude_none=True, exclude={"threads"})
    wrong = ("serve",) if body.work == "train" else _OF_TRAINING
    stray = next((name for name in wrong if name in given), None)
    if stray is not None:
        raise InvalidRequest(f"{stray} does not go with work {body.work!r}", param=stray)
    doubled = next((name for name in _OF_LENGTHS if body.training_file is not None and name in given), None)
    if doubled is not None:
        raise InvalidRequest(f"{doubled} does not go with training_file, whose rows are counted", param=doubled)
    if body.learnt is not None and body.learnt >= (body.length or USUAL_LENGTH):
        raise InvalidRequest(f"learnt {body.learnt} must be less than length {body.length or USUAL_LENGTH}", "learnt")


def _model(body: EstimateRequest, gateway: Gateway, caller: Caller) -> tuple[ModelConfig, Path | None]:
    """Return the sizes of the model, and its folder where it has one here."""
    if body.config is not None:
        return model_config("config", body.config), None
    base = gateway.registry.at_hand(find_base(str(body.model), gateway.registry, caller))
    return read_model_config(Path(base.path)), Path(base.path)


def _training(body: EstimateRequest, gateway: Gateway, caller: Caller) -> TrainingEstimateObject:
    model, folder = _model(body, gateway, caller)
    kind = FINE_TUNING_KINDS[0] if body.method is None else FINE_TUNING_METHODS[body.method.type]
    shape = _shape(body, gateway, caller, (kind, folder))
    shape = replace(shape, validation_rows=body.validation_rows or 0)
    spec = job_spec(kind.method_name(), method_options(body.method, body.hyperparameters, kind), shape.rows)
    asked = AskedDevice(name=body.device, memory=body.memory)
    device = asked.on(gateway.own_machine.get(), body.threads)
    measured = measured_like(gateway.registry, spec) if body.device is None else ()
    made = estimate_training(model, spec, shape, device, measured)
    name = str(body.model) if body.model is not None else model.model_type
    return training_answer(made, (name, model), spec, (shape.rows, shape.longest))


def _shape(
    body: EstimateRequest, gateway: Gateway, caller: Caller, work: tuple[type[FineTuneSpec], Path | None]
) -> DataShape:
    kind, folder = work
    if body.training_file is not None:
        uploads = Uploads(gateway.registry, caller.sees, folder)
        return uploads.data_shape(kind, body.training_file, "training_file")
    length = body.length or USUAL_LENGTH
    return DataShape.even(body.rows or USUAL_ROWS, length, body.learnt, kind.answers_per_row)


def _serving(body: EstimateRequest, gateway: Gateway, caller: Caller) -> ServingEstimateObject:
    model, _ = _model(body, gateway, caller)
    machine = gateway.own_machine.get()
    device = AskedDevice(name=body.device, memory=body.memory).on(machine, machine.processor.cores)
    wishes = (body.serve or EngineWishes()).wishes()
    made = estimate_serving(model, wishes, device, machine.processor)
    return serving_answer(made, str(body.model or model.model_type), model)
