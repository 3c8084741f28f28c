"""Request bodies of the OpenAI API and of rollouts."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, GetPydanticSchema, create_model, model_validator

from registry.contracts.extensions.integrations import MOST_INTEGRATIONS, Integration
from registry.contracts.hyperparameters import Hyperparameters, MethodOptions
from registry.contracts.job_kinds import FINE_TUNING_KINDS, FINE_TUNING_METHODS
from registry.errors import InvalidPlan
from registry.jobs.scheduling.room import MOST_DEPENDENCIES
from registry.rollouts.rollout import RolloutPlan, plan_from
from registry.states import Priority
from registry.wording.field_faults import written_as
from registry.wording.known_fields import KnownFields, without_nulls

TenantName = Annotated[
    str,
    written_as(
        r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}",
        "at most 64 letters, digits and . _ @ -, of which the first is no sign",
    ),
]
"""Names of tenants, and of keys."""
Whole = Annotated[int, Field(ge=0, le=2**63 - 1)]
"""A number in a path or a query that a database can compare with its own."""


def whole_seconds(at: float | None) -> int | None:
    """Return a time as OpenAI's objects have it."""
    return None if at is None else int(at)


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
        needed = [name for name, field in options_of(self.type).model_fields.items() if field.is_required()]
        if needed and dict(self)[self.type] is None:
            raise ValueError(f"{self.type} is missing; method {self.type} needs its {', '.join(needed)}")
        return self

    def options(self) -> MethodOptions:
        """Return what was given below the method that `type` names."""
        given: MethodOptions | None = dict(self)[self.type]
        return options_of(self.type)() if given is None else given

    def grader_place(self) -> str:
        """Return the path of the method's grader in the request."""
        return f"method.{self.type}.grader"


def options_of(method: str) -> type[MethodOptions]:
    """Return the model of what a request gives below `method.<type>`."""
    return FINE_TUNING_METHODS[method].options_as


def _method_body() -> type[MethodBody]:
    """Build the model of `method` from the catalog: a field for each fine-tuning method, with its options."""
    fields: dict[str, Any] = {"type": (Literal[tuple(FINE_TUNING_METHODS)], ...)}
    for method, kind in FINE_TUNING_METHODS.items():
        fields[method] = (kind.options_as | None, None)
    return create_model("Method", __base__=MethodBody, **fields)


METHOD: Final = _method_body()
DEFAULT_HYPERPARAMETERS: Final[Any] = FINE_TUNING_KINDS[0].options_as.model_fields["hyperparameters"].annotation


class GateRequest(Body):
    """Gate of a rollout: the canary is asked the suite before it takes traffic."""

    suite: Annotated[str, Field(min_length=1, max_length=256)]
    """`builtin:NAME`, the id of an uploaded file, or the digest of a stored suite."""
    min: Annotated[float, Field(ge=0, le=1)] | None = None
    """Lowest score."""
    not_worse_than_stable_by: Annotated[float, Field(ge=0, le=1)] | None = None
    """Margin: the difference to the stable's score is above its negative with 95 % confidence."""
    timeout_s: Annotated[float, Field(ge=1, le=604800)] | None = None
    """Time for the evaluations, 3600 s by default; a gate that is not decided by then aborts the rollout."""


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
    gate: GateRequest | None = None
    """Scores that the revision needs before its first step."""

    def plan(self) -> RolloutPlan:
        """Return the plan that the body asks for; `InvalidPlan` names the field that makes no sense."""
        if self.guardrails is not None and not self.judge:
            raise InvalidPlan("guardrails: they need a judge; leave them out, or leave out judge=false")
        guardrails = (self.guardrails or {}) if self.judge else None
        fields = self.model_dump(include={"steps", "every_s", "shadow_judge"})
        gate = None if self.gate is None else self.gate.model_dump(exclude_none=True)
        return plan_from({**fields, "guardrails": guardrails, "gate": gate})


def as_model(model: Any) -> GetPydanticSchema:
    """Return what validates a field by a model of the catalog of methods, which type checkers do not know."""
    return GetPydanticSchema(lambda _, handler: handler(model))


MetadataKey = Annotated[str, Field(max_length=64)]
MetadataValue = Annotated[str, Field(max_length=512)]


class CreateJob(Body):
    """Body of `POST /v1/fine_tuning/jobs`."""

    model: str
    training_file: str
    validation_file: str | None = None
    method: Annotated[MethodBody, as_model(METHOD)] | None = None
    hyperparameters: Annotated[Hyperparameters, as_model(DEFAULT_HYPERPARAMETERS)] | None = None
    suffix: Annotated[str, Field(max_length=64)] | None = None
    """Empty like None: the name is drawn."""
    seed: Annotated[int, Field(ge=0, le=2147483647)] | None = None
    metadata: Annotated[dict[MetadataKey, MetadataValue], Field(max_length=16)] | None = None
    integrations: Annotated[list[Integration], Field(max_length=MOST_INTEGRATIONS)] | None = None
    rollout: RolloutRequest | None = None
    """A field of Lorry's: the rollout that starts as soon as the revision is published."""
    adapter: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """A field of Lorry's: the exact name of the adapter, where a suffix would be made into a legal name."""
    priority: Priority | None = None
    """A field of Lorry's: how the job waits for a worker; the key's own priority if it is not given."""
    after: Annotated[list[str], Field(max_length=MOST_DEPENDENCIES)] | None = None
    """A field of Lorry's: ids of jobs; the job waits until all of them have succeeded, and fails if one does not."""
    owner: TenantName | None = None
    """A field of Lorry's: the tenant that the job and its result belong to; an admin key may name any."""

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, value: Any) -> Any:
        return without_nulls(value)
