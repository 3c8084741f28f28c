"""The catalog of kinds of jobs. A new kind is a spec, a recipe in `trainer.recipes`, and one line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from registry.contracts.fine_tune_spec import FineTuneSpec
from registry.contracts.job_spec import JobSpec
from registry.contracts.merge_spec import MergeSpec
from registry.contracts.methods.dpo_spec import DpoSpec
from registry.contracts.methods.kto_spec import KtoSpec
from registry.contracts.methods.orpo_spec import OrpoSpec
from registry.contracts.methods.ppo_spec import PpoSpec
from registry.contracts.methods.reinforcement_spec import ReinforcementSpec
from registry.contracts.methods.reward_spec import RewardSpec
from registry.contracts.methods.simpo_spec import SimpoSpec
from registry.contracts.methods.supervised_spec import SupervisedSpec
from registry.contracts.publish_spec import PublishSpec
from registry.contracts.quantizations.quantize_spec import QuantizeSpec
from registry.contracts.reproductions.reproduce_spec import ReproduceSpec

FINE_TUNING_KINDS: Final[tuple[type[FineTuneSpec], ...]] = (
    SupervisedSpec,
    DpoSpec,
    ReinforcementSpec,
    PpoSpec,
    KtoSpec,
    OrpoSpec,
    SimpoSpec,
    RewardSpec,
)
"""Kinds that callers create at `/v1/fine_tuning/jobs`; the first is the default method."""
OTHER_KINDS: Final[tuple[type[JobSpec], ...]] = (PublishSpec, ReproduceSpec, MergeSpec, QuantizeSpec)

JOB_KINDS: Final[Mapping[str, type[JobSpec]]] = {
    kind.method_name(): kind for kind in (*FINE_TUNING_KINDS, *OTHER_KINDS)
}
"""`method` of a spec -> its class."""
FINE_TUNING_METHODS: Final[Mapping[str, type[FineTuneSpec]]] = {kind.method_name(): kind for kind in FINE_TUNING_KINDS}
"""`method` -> class, for the kinds that OpenAI's clients see."""


def spec_from(fields: Mapping[str, Any]) -> JobSpec:
    """Return the spec of a JSON object; raises pydantic's `ValidationError`, or `KeyError` for an unknown kind."""
    return JOB_KINDS[fields["method"]].model_validate(fields)
