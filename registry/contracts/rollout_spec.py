"""The rollout that a job asks for, as JSON."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from registry.rollouts.rollout import RolloutPlan, plan_as_json, plan_from


class RolloutSpec(BaseModel):
    """The fields of `registry.rollouts.rollout.plan_as_json` as a part of a spec."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: tuple[int | str, ...]
    every_s: float | None = None
    guardrails: dict[str, Any] | None = None
    shadow_judge: str | None = None
    gate: dict[str, Any] | None = None

    @classmethod
    def from_plan(cls, plan: RolloutPlan) -> RolloutSpec:
        """Return *plan* as a part of a spec."""
        return cls.model_validate(plan_as_json(plan))

    def plan(self) -> RolloutPlan:
        """Return the plan; `InvalidPlan` names the field that makes no sense."""
        return plan_from(self.model_dump())
