"""Request bodies."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from registry.errors import InvalidPlan
from registry.rollouts.rollout import RolloutPlan, plan_from

UNKNOWN_FIELD: Final = "unknown_field"


def _auto_is_none(value: Any) -> Any:
    return None if value == "auto" else value


_AUTO = BeforeValidator(_auto_is_none)


class Body(BaseModel):
    """A request body or a part of one. An unknown field is an error that lists what there is."""

    @model_validator(mode="before")
    @classmethod
    def check_fields(cls, value: Any) -> Any:
        """*value* as it came, or an error naming its first unknown field."""
        if isinstance(value, dict) and (unknown := sorted(set(value) - set(cls.model_fields))):
            facts = {"field": unknown[0], "known": ", ".join(cls.model_fields)}
            raise PydanticCustomError(UNKNOWN_FIELD, "unknown field {field}; there are {known}", facts)
        return value


class Hyperparameters(Body):
    """OpenAI's three, each a value or `auto` (None here), and Lorry's own below them."""

    n_epochs: Annotated[Annotated[int, Field(ge=1, le=50)] | None, _AUTO] = None
    batch_size: Annotated[Annotated[int, Field(ge=1, le=256)] | None, _AUTO] = None
    learning_rate_multiplier: Annotated[Annotated[float, Field(gt=0)] | None, _AUTO] = None
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] | None = None
    max_length: Annotated[int, Field(ge=16)] | None = None
    checkpoint_steps: Annotated[int, Field(ge=1)] | None = None
    lora_rank: Annotated[int, Field(ge=1, le=512)] | None = None
    lora_alpha: Annotated[int, Field(ge=1)] | None = None
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    target_modules: list[str] | None = None


class Supervised(Body):
    """`method.supervised`."""

    hyperparameters: Hyperparameters = Field(default_factory=Hyperparameters)


class Method(Body):
    """`method`; this server trains `supervised`."""

    type: Literal["supervised"]
    supervised: Supervised = Field(default_factory=Supervised)


class RolloutRequest(Body):
    """Plan of a rollout; `POST /admin/adapters/{name}/rollouts` adds the revision."""

    steps: list[int | str]
    """Percents of the conversations, or `shadow:` and a percent of copies."""
    every_s: Annotated[float, Field(gt=0)] | None = None
    judge: bool = True
    """False moves by time or by hand alone."""
    guardrails: dict[str, Any] | None = None
    """Margins that differ from the defaults; see `registry.rollouts.guardrails.GuardrailPlan`."""
    shadow_judge: str | None = None

    def plan(self) -> RolloutPlan:
        """What was asked for; `InvalidPlan` names the field that makes no sense."""
        if self.guardrails is not None and not self.judge:
            raise InvalidPlan("guardrails need a judge: leave them out, or leave out judge=false")
        guardrails = (self.guardrails or {}) if self.judge else None
        return plan_from(self.model_dump(include={"steps", "every_s", "shadow_judge"}) | {"guardrails": guardrails})


class CreateJob(Body):
    """Body of `POST /v1/fine_tuning/jobs`."""

    model: str
    training_file: str
    validation_file: str | None = None
    method: Method | None = None
    hyperparameters: Hyperparameters | None = None
    suffix: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    seed: Annotated[int, Field(ge=0, le=2147483647)] | None = None
    metadata: Annotated[dict[str, str], Field(max_length=16)] | None = None
    integrations: Annotated[list[Any], Field(max_length=0)] | None = None
    """Accepted only empty: no integration exists here."""
    rollout: RolloutRequest | None = None
    """Lorry's own: roll the revision out as soon as it is published."""
