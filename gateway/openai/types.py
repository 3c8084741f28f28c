"""Request bodies of the OpenAI API and of rollouts."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, GetPydanticSchema, create_model, model_validator

from registry.contracts.hyperparameters import Hyperparameters
from registry.contracts.job_kinds import FINE_TUNING_METHODS
from registry.contracts.known_fields import KnownFields, without_nulls
from registry.errors import InvalidPlan
from registry.rollouts.rollout import RolloutPlan, plan_from

Whole = Annotated[int, Field(ge=0, le=2**63 - 1)]
"""A number in a path or a query that a database can compare with its own."""


class Body(KnownFields):
    """A request body or a part of one. An unknown field is an error that lists the known ones."""


class MethodBody(Body):
    """`method`: the name of a fine-tuning method and, under that name, its hyperparameters."""

    type: str

    @model_validator(mode="after")
    def _has_no_other_method(self) -> Self:
        for name, value in self:
            if name not in ("type", self.type) and value is not None:
                raise ValueError(f"{name} does not go with type {self.type}")
        return self

    def hyperparameters(self) -> Hyperparameters:
        """Return the hyperparameters of the method that `type` names."""
        given: MethodOptions | None = dict(self)[self.type]
        return FINE_TUNING_METHODS[self.type].asked_as() if given is None else given.hyperparameters


class MethodOptions(Body):
    """`method.<type>`."""

    hyperparameters: Hyperparameters


def _method_body() -> type[MethodBody]:
    """Build the model of `method` from the catalog: a field for each fine-tuning method, with its hyperparameters."""
    fields: dict[str, Any] = {"type": (Literal[tuple(FINE_TUNING_METHODS)], ...)}
    for method, kind in FINE_TUNING_METHODS.items():
        asked: Any = (kind.asked_as, Field(default_factory=kind.asked_as))
        options = create_model(f"{method.capitalize()}Options", __base__=MethodOptions, hyperparameters=asked)
        fields[method] = (options | None, None)
    return create_model("Method", __base__=MethodBody, **fields)


METHOD: Final = _method_body()


class RolloutRequest(Body):
    """Plan of a rollout; `POST /admin/adapters/{name}/rollouts` adds the revision."""

    steps: Annotated[list[int | str], Field(max_length=100)]
    """Percents of the conversations, or `shadow:` and a percent of copies."""
    every_s: Annotated[float, Field(gt=0)] | None = None
    judge: bool = True
    """False: the rollout moves only by time or by hand."""
    guardrails: dict[str, Any] | None = None
    """Margins that differ from the defaults; see `registry.rollouts.guardrails.GuardrailPlan`."""
    shadow_judge: str | None = None

    def plan(self) -> RolloutPlan:
        """Return the plan that the body asks for; `InvalidPlan` names the field that makes no sense."""
        if self.guardrails is not None and not self.judge:
            raise InvalidPlan("guardrails need a judge: leave them out, or leave out judge=false")
        guardrails = (self.guardrails or {}) if self.judge else None
        return plan_from(self.model_dump(include={"steps", "every_s", "shadow_judge"}) | {"guardrails": guardrails})


MetadataKey = Annotated[str, Field(max_length=64)]
MetadataValue = Annotated[str, Field(max_length=512)]


class CreateJob(Body):
    """Body of `POST /v1/fine_tuning/jobs`."""

    model: str
    training_file: str
    validation_file: str | None = None
    method: Annotated[MethodBody, GetPydanticSchema(lambda _, handler: handler(METHOD))] | None = None
    hyperparameters: Hyperparameters | None = None
    suffix: Annotated[str, Field(max_length=64)] | None = None
    """Empty like None: the name is drawn."""
    seed: Annotated[int, Field(ge=0, le=2147483647)] | None = None
    metadata: Annotated[dict[MetadataKey, MetadataValue], Field(max_length=16)] | None = None
    integrations: Annotated[list[Any], Field(max_length=0)] | None = None
    """Must be empty: no integration exists here."""
    rollout: RolloutRequest | None = None
    """A field of Lorry's: the rollout that starts as soon as the revision is published."""

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, value: Any) -> Any:
        return without_nulls(value)
